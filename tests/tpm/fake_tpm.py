"""A TPM that misbehaves: it reads whole commands and answers what it was told to."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import trio

from tccp.tpm.marshal import u16, u32

Misbehave = Callable[[trio.abc.Stream, bytes], Awaitable[None]]

NO_SESSIONS = 0x8001
SESSIONS = 0x8002


def response(body: bytes = b"", *, tag: int = NO_SESSIONS, code: int = 0, size: int | None = None) -> bytes:
    """A response as a TPM frames it, lies included."""
    return u16(tag) + u32(10 + len(body) if size is None else size) + u32(code) + body


def answering(*answers: bytes) -> Misbehave:
    """Answer the commands with *answers*, one after the other, the last again and again."""
    left = list(answers)

    async def misbehave(stream: trio.abc.Stream, _command: bytes) -> None:
        await stream.send_all(left.pop(0) if len(left) > 1 else left[0])

    return misbehave


async def serve(stream: trio.abc.Stream, misbehave: Misbehave) -> None:
    """Pass each command on *stream* to *misbehave* until either side has enough."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        buffer = bytearray()
        async for data in stream:
            buffer += data
            while len(buffer) >= 6 and len(buffer) >= (size := int.from_bytes(buffer[2:6], "big")):
                command = bytes(buffer[:size])
                del buffer[:size]
                await misbehave(stream, command)


@contextlib.asynccontextmanager
async def listening(path: Path, misbehave: Misbehave) -> AsyncIterator[str]:
    """A misbehaving TPM behind a Unix socket; yields its TCTI string."""
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            trio.serve_listeners, lambda stream: serve(stream, misbehave), [trio.SocketListener(listener)]
        )
        yield f"swtpm:path={path}"
        nursery.cancel_scope.cancel()
