"""Wires between two nodes: TLS over TCP, with the streams of the daemons."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from tccp.node.vm.streams import BESIDE_DISKS
from tccp.transport.bulk_stream import BulkStream
from tccp.transport.certificates import COORDINATOR_HOST, Authority, KeyPair, fresh_key, key_pem, pem_of, spki_of_key
from tccp.transport.tls import coordinator_context, node_context


def _pair(authority: Authority) -> KeyPair:
    key, now = fresh_key(), dt.datetime.now(dt.UTC)
    until = now + dt.timedelta(hours=1)
    der = authority.issue(spki_of_key(key), COORDINATOR_HOST, not_before=now, not_after=until, server=True, client=True)
    return KeyPair(certificate=pem_of(der), key=key_pem(key))


@asynccontextmanager
async def tls_wire() -> AsyncIterator[tuple[BulkStream, BulkStream]]:
    """Both ends."""
    authority = Authority(Authority.create("authority", now=dt.datetime.now(dt.UTC)))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        server = await listener.accept()
    there = BulkStream(server, coordinator_context(_pair(authority), [authority.certificate_pem]), server_side=True)
    context = node_context(_pair(authority), authority.certificate_pem)
    here = BulkStream(client, context, server_side=False, server_name=COORDINATOR_HOST)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.handshake)
            nursery.start_soon(here.handshake)
        yield here, there
    finally:
        here.close()
        there.close()


@dataclass(frozen=True)
class Wires:
    """All that a move needs: both ends of each stream."""

    here: list[BulkStream]
    there: list[BulkStream]

    def close_here(self) -> None:
        """As if the source had ended."""
        for stream in self.here:
            stream.close()

    def close_there(self) -> None:
        """As if the destination had ended."""
        for stream in self.there:
            stream.close()


@asynccontextmanager
async def tls_wires(disks: int = 0) -> AsyncIterator[Wires]:
    """As many as a VM with so many disks needs."""
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(tls_wire()) for _ in range(BESIDE_DISKS + disks)]
        yield Wires([here for here, _ in pairs], [there for _, there in pairs])
