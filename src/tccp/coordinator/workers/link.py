"""What coordinator and worker say to each other, over a pair of sockets: frames about connections, in order.

    coordinator --- PING                                         -->  worker
                <-- PONG       from now on it can keep a secret
                --- START      what it needs, keys among it      -->
                <-- READY      it takes connections in
                --- LOGS       from now on it logs so        -->
                <-- OPENED n   a node: its TLS handshake is done
                <-- DATA n     what it says               DATA n -->  what it is told
                               so much of that was taken TAKEN n -->
                <-- ENDED n    it has closed, or vanished CLOSE n -->  after what was sent before

Nine bytes of header (length of what follows, kind, number of the connection), then the content. Each side writes when
it comes to it: whatever was said in the meantime leaves in one write.
"""

import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated

import msgspec
import trio
from msgspec import Meta

from tccp.config import LogConfig
from tccp.errors import HostError
from tccp.protocol.encoding import Message

HEADER = struct.Struct(">IBI")
CONTENT_BYTES_MAX = 4 << 20
READ_BYTES = WRITE_BYTES = 1 << 18
# Who says more than this before the other side has read it waits; a connection's reader does.
ROOM_BYTES = 1 << 20
# A worker reads no more from a node of which the coordinator has not taken this much yet, and hears in such steps.
WINDOW_BYTES = 256 << 10
STEP_BYTES = 64 << 10
# A worker that lets this much wait has stopped reading.
UNSENT_BYTES_MAX = 64 << 20
CERTIFICATE_BYTES_MAX = 64 << 10  # OpenSSL takes longer ones


class Kind(enum.IntEnum):
    """What a frame is about."""

    START = 1
    READY = 2
    OPENED = 3
    DATA = 4
    TAKEN = 5
    ENDED = 6
    CLOSE = 7
    PING = 8
    PONG = 9
    LOGS = 10


class Start(msgspec.Struct, frozen=True):
    """What a worker needs: the coordinator's first word."""

    log: LogConfig
    tls_certificate: bytes
    tls_key: bytes
    authorities: tuple[bytes, ...]  # of the certificates that nodes show, PEM
    connections_max: int


class Opened(Message, frozen=True):
    """A node's connection whose TLS handshake is done."""

    address: Annotated[str, Meta(max_length=256)]
    certificate: Annotated[bytes, Meta(min_length=1, max_length=CERTIFICATE_BYTES_MAX)]  # that the node showed, DER


Frame = tuple[Kind, int, bytes]


class Link:
    """One end. `write` must be running; one task reads `frames`.

    Args:
        end: This end of the pair.
        on_full: Called when the other side has stopped reading; nothing more is said to it then.
    """

    def __init__(self, end: socket.socket, *, on_full: Callable[[], None]) -> None:
        end.setblocking(False)
        self._socket, self._on_full = trio.socket.from_stdlib_socket(end), on_full
        self._unsent = bytearray()
        self._said, self._has_room = trio.Event(), trio.Event()
        self._is_over = False

    def say(self, kind: Kind, number: int = 0, content: bytes = b"") -> None:
        """Say something, without waiting."""
        assert len(content) <= CONTENT_BYTES_MAX
        if self._is_over:
            return
        self._unsent += HEADER.pack(len(content), kind, number) + content
        self._said.set()
        if len(self._unsent) > UNSENT_BYTES_MAX:
            self._end()
            self._on_full()

    async def room(self) -> None:
        """Wait until the other side has read most of what was said."""
        while len(self._unsent) > ROOM_BYTES and not self._is_over:
            await self._has_room.wait()

    async def write(self) -> None:
        """Send what is said, until cancelled or until nobody is there to read it."""
        while not self._is_over:
            await self._said.wait()
            self._said = trio.Event()
            await self._send_all()

    async def finish(self) -> None:
        """Send the rest, when `write` has ended, and say nothing more."""
        await self._send_all()
        self._end()
        with contextlib.suppress(OSError):
            self._socket.shutdown(trio.socket.SHUT_WR)

    def close(self) -> None:
        """Close this end."""
        self._end()
        self._socket.close()

    async def _send_all(self) -> None:
        """Whoever is cancelled here has sent some of it, and the next goes on from there."""
        try:
            while self._unsent:
                sent = await self._socket.send(bytes(self._unsent[:WRITE_BYTES]))
                del self._unsent[:sent]
                if len(self._unsent) <= ROOM_BYTES:
                    self._has_room.set()
                    self._has_room = trio.Event()
        except OSError:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._unsent.clear()
        self._has_room.set()

    async def frames(self) -> AsyncIterator[Frame]:
        """What the other side says, until it is gone.

        Raises:
            HostError: ``worker_link``: it says what it cannot say.
        """
        reader = LinkReader()
        while True:
            try:
                data = await self._socket.recv(READ_BYTES)
            except OSError:
                return
            if not data:
                return
            for frame in reader.receive(data):
                yield frame


class LinkReader:
    """Cuts what arrives, however it arrives, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Frame]:
        """All frames that are whole now.

        Raises:
            HostError: ``worker_link``: of no kind that there is, or too long.
        """
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= HEADER.size:
            length, kind, number = HEADER.unpack_from(self._buffer, at)
            if length > CONTENT_BYTES_MAX or kind not in _KINDS:
                raise HostError("worker_link", f"a frame of kind {kind} with {length} bytes")
            end = at + HEADER.size + length
            if len(self._buffer) < end:
                break
            yield _KINDS[kind], number, bytes(self._buffer[at + HEADER.size : end])
            at = end
        del self._buffer[:at]


_KINDS = {int(kind): kind for kind in Kind}
