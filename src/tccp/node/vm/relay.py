"""A VM's state over a byte stream between two nodes, in both directions one VM's own.

    source          { u32be length, then as many bytes }*  u32be 0
    destination     one byte 1, once its QEMU has all of it and stands still

What the frames carry, one behind the other, is a preamble and QEMU's migration stream. QEMU speaks to our end of a
socket pair and never to the network: who gave us the stream has made sure who is at its other end, and that nobody
else can read it. Nothing is said behind the end but the answer, so that the stream may go on to be used.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Protocol

import trio

from tccp.errors import HostError, ProtocolError
from tccp.transport.errors import PeerGoneError

FRAME = struct.Struct(">I")
FRAME_BYTES_MAX = 256 << 10
SOCKET_BYTES = 1 << 20
ALL_HERE = b"\1"
# What a stream of trio's or of `tccp.transport` says when there is nobody at its other end.
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, PeerGoneError, ProtocolError)


class ByteStream(Protocol):
    """A stream of trio's, or of `tccp.transport.tls_stream`; it may give more bytes at a time than it was asked for."""

    async def send_all(self, data: bytes) -> None:
        """All of it."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What there is; nothing at the end."""


def state_sockets() -> tuple[socket.socket, socket.socket]:
    """Our end and QEMU's."""
    pair = socket.socketpair()
    for one in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            one.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
    return pair


async def relay_out(ours: trio.socket.SocketType, stream: ByteStream) -> None:
    """Send what QEMU writes, until it closes its end; `send_end` says whether that was all.

    Raises:
        HostError: ``stream_broken``.
    """
    buffer = bytearray(FRAME.size + FRAME_BYTES_MAX)
    view = memoryview(buffer)
    try:
        while length := await ours.recv_into(view[FRAME.size :]):
            FRAME.pack_into(buffer, 0, length)
            await stream.send_all(bytes(view[: FRAME.size + length]))
    except (OSError, *BROKEN) as problem:
        raise HostError("stream_broken", f"sending the state: {problem or type(problem).__name__}") from problem


async def send_piece(stream: ByteStream, piece: bytes) -> None:
    """Send something of our own, no more than a frame may have.

    Raises:
        HostError: ``stream_broken``.
    """
    assert 0 < len(piece) <= FRAME_BYTES_MAX
    await _send(stream, FRAME.pack(len(piece)) + piece)


async def send_end(stream: ByteStream) -> None:
    """Say that this was all, and wait until it is all there.

    Raises:
        HostError: ``stream_broken``: nobody says so.
    """
    await _send(stream, FRAME.pack(0))
    try:
        answer = await stream.receive_some(1)
    except BROKEN:
        answer = b""
    if bytes(answer) != ALL_HERE:
        raise HostError("stream_broken", "the other node does not say that it has the whole state")


class Unframing:
    """Bytes as they come, of frames; what the frames carry."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        self.is_over = False

    def feed(self, data: bytes | bytearray) -> Iterator[memoryview]:
        """The pieces in *data* of what is carried; `is_over` once the end has come.

        Raises:
            HostError: ``state_malformed``: a frame that is too long, or something behind the end.
        """
        rest = memoryview(data)
        while rest:
            if self.is_over:
                raise HostError("state_malformed", f"{len(rest)} bytes behind the end")
            if self._left:
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            missing = FRAME.size - len(self._header)
            self._header += rest[:missing]
            rest = rest[missing:]
            if len(self._header) == FRAME.size:
                (self._left,) = FRAME.unpack(self._header)
                self._header.clear()
                self.is_over = self._left == 0
            if self._left > FRAME_BYTES_MAX:
                raise HostError("state_malformed", f"a frame of {self._left} bytes")


async def relay_in(stream: ByteStream, ours: trio.socket.SocketType) -> None:
    """Hand what arrives to QEMU, to the end. A source says nothing behind that until it is answered.

    Raises:
        HostError: ``stream_broken``: it ends before its end, or ``state_malformed``.
    """
    frames = Unframing()
    while not frames.is_over:
        for piece in frames.feed(await _receive(stream)):
            await _hand_over(ours, piece)


async def say_all_is_here(stream: ByteStream) -> None:
    """To the source, which waits for it.

    Raises:
        HostError: ``stream_broken``: it does not any more.
    """
    await _send(stream, ALL_HERE)


async def _hand_over(ours: trio.socket.SocketType, view: memoryview) -> None:
    try:
        while view:
            view = view[await ours.send(view) :]
    except OSError:
        raise HostError("state_refused", "QEMU reads no further") from None


async def _receive(stream: ByteStream) -> bytes | bytearray:
    try:
        data = await stream.receive_some(FRAME_BYTES_MAX)
    except BROKEN as problem:
        raise HostError("stream_broken", f"receiving the state: {problem}") from problem
    if not data:
        raise HostError("stream_broken", "the state ends in the middle")
    return data


async def _send(stream: ByteStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except BROKEN as problem:
        raise HostError("stream_broken", f"sending the state: {problem}") from problem
