"""A daemon with a real control socket that gives prepared answers and remembers what it was asked."""

import contextlib
import os
import socket
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path

import msgspec
import trio

from tccp.control.server import ControlGroups, Peer, serve_control
from tccp.errors import TccpError
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame

Item = msgspec.Struct | TccpError
Prepared = Item | list[Item]


class ControlDaemon:
    def __init__(self, path: Path, answers: Mapping[type, Prepared]) -> None:
        self.path = path
        self.asked: list[msgspec.Struct] = []
        self._answers = answers

    async def answer(self, request: msgspec.Struct, _peer: Peer) -> msgspec.Struct | AsyncGenerator[msgspec.Struct]:
        self.asked.append(request)
        prepared = self._answers[type(request)]
        if isinstance(prepared, TccpError):
            raise prepared
        if isinstance(prepared, list):
            return self._stream(prepared, endless=getattr(request, "follow", False))
        return prepared

    async def _stream(self, items: list[Item], *, endless: bool) -> AsyncGenerator[msgspec.Struct]:
        for item in items:
            if isinstance(item, TccpError):
                raise item
            yield item
        if endless:
            await trio.sleep_forever()


@contextlib.contextmanager
def dying_daemon(path: Path, *said: msgspec.Struct) -> Iterator[None]:
    """A daemon that dies after it has said so much to the first who asks."""

    def serve() -> None:
        with listener.accept()[0] as stream:
            stream.recv(65_536)
            stream.sendall(b"".join(frame(encode(message)) for message in said))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@contextlib.contextmanager
def control_daemon(path: Path, request_kind: object, answers: Mapping[type, Prepared]) -> Iterator[ControlDaemon]:
    """Serve in a thread of its own until the block ends."""
    daemon = ControlDaemon(path, answers)
    listening = threading.Event()
    stop: list[trio.CancelScope] = []
    token: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(str(path))
        sock.listen()
        with trio.CancelScope() as scope:
            stop.append(scope)
            token.append(trio.lowlevel.current_trio_token())
            listening.set()
            await serve_control(
                [trio.SocketListener(sock)], request_kind, daemon.answer, own_uid=os.getuid(), groups=ControlGroups()
            )

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert listening.wait(30)
    try:
        yield daemon
    finally:
        token[0].run_sync_soon(stop[0].cancel)
        thread.join()
