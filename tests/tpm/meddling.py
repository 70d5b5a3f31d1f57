"""Connections to a real TPM that meddle: something happens just before a command reaches it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from tccp.tpm import Tpm, parse_tcti
from tccp.tpm.channel import Channel
from tccp.tpm.constants import CommandCode
from tccp.tpm.tcti import Connection

BeforeCommand = Callable[[Connection, CommandCode], Awaitable[None]]


class MeddlingConnection:
    """A connection that lets *before* act on the same TPM before it passes a command on."""

    def __init__(self, inner: Connection, before: BeforeCommand) -> None:
        self._inner = inner
        self._before = before

    async def send(self, data: bytes) -> None:
        await self._before(self._inner, CommandCode(int.from_bytes(data[6:10], "big")))
        await self._inner.send(data)

    async def receive(self) -> bytes:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.asynccontextmanager
async def open_meddled(tcti: str, before: BeforeCommand) -> AsyncIterator[Tpm]:
    """A client of the TPM behind *tcti* with *before* in between."""
    connection = await parse_tcti(tcti).connect()
    tpm = Tpm(Channel(MeddlingConnection(connection, before), timeout_s=90))
    try:
        yield tpm
    finally:
        await tpm.aclose()


async def pump(source: trio.abc.ReceiveStream, target: trio.abc.SendStream) -> None:
    """Carry bytes from *source* to *target* until either ends."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await target.send_all(data)
        await target.aclose()
