"""A worker: takes connections in, does TLS, and passes on what is said. ``python -m tccp.coordinator.workers.child``

It is started by `tccp.coordinator.workers.pool`, which hands it one end of a link and the listening sockets as
descriptors, and its keys over the link: nothing secret is among its arguments or in its environment. It holds the TLS
key and no other, believes nothing, decides nothing, and ends when the link does. Signals are for the coordinator.
"""

import argparse
import contextlib
import signal
import socket
import ssl
import sys
from typing import Any

import msgspec
import structlog
import trio

from tccp import logs
from tccp.bugs import contained
from tccp.config import LogConfig
from tccp.coordinator.workers.link import CERTIFICATE_BYTES_MAX, WINDOW_BYTES, Kind, Link, Opened, Start
from tccp.core.process import harden
from tccp.errors import ProtocolError, TccpError
from tccp.protocol.encoding import encode
from tccp.service import calm_the_garbage_collector
from tccp.transport.accepting import address_of, forgiving, serve_connections
from tccp.transport.certificates import KeyPair
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import coordinator_context
from tccp.transport.tls_stream import TlsStream

FLUSH_S = 30.0  # who does not read for that long is gone
CLOSE_S = 5.0  # for what was said before the end

log = structlog.get_logger()


class _Relay:
    """One node's connection in a worker."""

    def __init__(self, stream: TlsStream) -> None:
        self.stream = stream
        self.scope = trio.CancelScope()
        self.not_taken = 0
        self.taken = trio.Event()


class Worker:
    """Everything that a worker does.

    Args:
        link: To the coordinator.
        nursery: For what has to wait.
    """

    def __init__(self, link: Link, nursery: trio.Nursery) -> None:
        self._link, self._nursery = link, nursery
        self._relays: dict[int, _Relay] = {}
        self._count = 0
        self._accepting = trio.CancelScope()
        self._context: ssl.SSLContext

    async def start(self, content: bytes, listeners: list[trio.SocketListener]) -> None:
        """Take connections in, with what the coordinator has given us."""
        start = msgspec.msgpack.decode(content, type=Start)
        _log_as(start.log)
        self._context = coordinator_context(KeyPair(start.tls_certificate, start.tls_key), start.authorities)
        self._nursery.start_soon(self._accept, listeners, start.connections_max)
        self._link.say(Kind.READY)

    async def _accept(self, listeners: list[trio.SocketListener], connections_max: int) -> None:
        with self._accepting:
            await serve_connections(listeners, self._hand_over, connections_max=connections_max)

    async def _hand_over(self, stream: trio.SocketStream) -> None:
        """One connection. Once its handshake is done its task is not the listener's."""
        address = address_of(stream)
        with forgiving(address):
            tls = await handshake(stream, self._context, server_side=True)
            certificate = tls.peer_certificate()
            if len(certificate) > CERTIFICATE_BYTES_MAX:  # whoever has the door's key makes them of any length
                tls.close()
                raise ProtocolError("tls_certificate", f"{len(certificate)} bytes")
            done = trio.Event()
            self._nursery.start_soon(self._relay, Opened(address, certificate), tls, done)
            await done.wait()

    async def _relay(self, opened: Opened, tls: TlsStream, done: trio.Event) -> None:
        self._count = number = (self._count + 1) & 0xFFFFFFFF
        relay = self._relays[number] = _Relay(tls)
        self._link.say(Kind.OPENED, number, encode(opened))
        why = ""
        try:
            with relay.scope, contained("connection_bug", foreseen=(TccpError,), address=opened.address):
                await self._pass_up(number, relay)
        except (PeerGoneError, ProtocolError) as problem:
            why = f"{problem.reason}\0{problem.detail}"
        finally:
            del self._relays[number]
            self._link.say(Kind.ENDED, number, why.encode())
            tls.close()
            done.set()

    async def _pass_up(self, number: int, relay: _Relay) -> None:
        while data := await relay.stream.receive():
            relay.not_taken += len(data)
            self._link.say(Kind.DATA, number, data)
            await self._link.room()
            while relay.not_taken > WINDOW_BYTES:
                relay.taken = trio.Event()
                await relay.taken.wait()

    def obey(self, kind: Kind, number: int, content: bytes) -> None:
        """What the coordinator says; connections that have ended meanwhile are no more."""
        relay = self._relays.get(number)
        if kind is Kind.DATA and relay is not None:
            self._send(relay, content)
        elif kind is Kind.TAKEN and relay is not None:
            relay.not_taken -= int.from_bytes(content, "big")
            relay.taken.set()
        elif kind is Kind.CLOSE and relay is not None:
            self._close(relay)
        elif kind is Kind.PING:
            self._link.say(Kind.PONG)
        elif kind is Kind.LOGS:
            _log_as(msgspec.msgpack.decode(content, type=LogConfig))

    def _send(self, relay: _Relay, data: bytes) -> None:
        try:
            if not relay.stream.send_nowait(data):
                self._nursery.start_soon(self._flush, relay, FLUSH_S)
        except PeerGoneError:
            relay.scope.cancel()

    def _close(self, relay: _Relay) -> None:
        try:
            if relay.stream.push():
                relay.scope.cancel()
            else:
                self._nursery.start_soon(self._flush_and_close, relay)
        except PeerGoneError:
            relay.scope.cancel()

    async def _flush(self, relay: _Relay, seconds: float) -> None:
        try:
            with trio.fail_after(seconds):
                while not relay.stream.push():
                    await relay.stream.flush()
        except trio.TooSlowError:
            relay.scope.cancel()
        except (PeerGoneError, trio.BusyResourceError):
            return  # who reads from it, or waits for it already, sees the same

    async def _flush_and_close(self, relay: _Relay) -> None:
        await self._flush(relay, CLOSE_S)
        relay.scope.cancel()

    async def finish(self) -> None:
        """The coordinator says nothing more: close everything, after what it said last."""
        self._accepting.cancel()
        for relay in list(self._relays.values()):
            self._close(relay)


def _log_as(config: LogConfig) -> None:
    logs.configure(log_format=config.format, level=config.level)


async def serve(link_fd: int, listener_fds: list[int]) -> None:
    """Work until the coordinator is gone."""
    sockets = [socket.socket(fileno=fd) for fd in listener_fds]
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]
    async with contextlib.AsyncExitStack() as opened, trio.open_nursery() as nursery:
        for listener in listeners:
            await opened.enter_async_context(listener)
        link = Link(socket.socket(fileno=link_fd), on_full=nursery.cancel_scope.cancel)
        opened.callback(link.close)
        nursery.start_soon(link.write)
        async with trio.open_nursery() as connections:
            worker = Worker(link, connections)
            async for kind, number, content in link.frames():
                if kind is Kind.START:
                    await worker.start(content, listeners)
                else:
                    worker.obey(kind, number, content)
            await worker.finish()
            connections.cancel_scope.deadline = trio.current_time() + CLOSE_S
        nursery.cancel_scope.cancel()


def main(arguments: list[str] | None = None) -> int:
    """Parse what the pool has written, and work."""
    harden()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # systemd and terminals tell all of us; the coordinator tells its workers
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--listeners", required=True)
    options: Any = parser.parse_args(arguments)
    calm_the_garbage_collector()
    trio.run(serve, options.link, [int(fd) for fd in options.listeners.split(",")])
    return 0


if __name__ == "__main__":
    sys.exit(main())
