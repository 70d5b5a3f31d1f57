"""A wire between two nodes: TLS over TCP, with the streams of the daemons."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tccp.transport.certificates import COORDINATOR_HOST, Authority, KeyPair, fresh_key, key_pem, pem_of, spki_of_key
from tccp.transport.connection import handshake
from tccp.transport.tls import coordinator_context, node_context
from tccp.transport.tls_stream import TlsStream


def _pair(authority: Authority) -> KeyPair:
    key, now = fresh_key(), dt.datetime.now(dt.UTC)
    until = now + dt.timedelta(hours=1)
    der = authority.issue(spki_of_key(key), COORDINATOR_HOST, not_before=now, not_after=until, server=True, client=True)
    return KeyPair(certificate=pem_of(der), key=key_pem(key))


@asynccontextmanager
async def tls_wire() -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    """Both ends."""
    authority = Authority(Authority.create("authority", now=dt.datetime.now(dt.UTC)))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    ends: list[TlsStream] = []
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        server = await listener.accept()

    async def accept() -> None:
        context = coordinator_context(_pair(authority), [authority.certificate_pem])
        ends.append(await handshake(server, context, server_side=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        context = node_context(_pair(authority), authority.certificate_pem)
        here = await handshake(client, context, server_side=False, server_name=COORDINATOR_HOST)
    try:
        yield here, ends[0]
    finally:
        here.close()
        ends[0].close()
