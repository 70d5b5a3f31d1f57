"""A VM's state over a byte stream between two nodes, in both directions one VM's own.

    source          { u32be length, then as many bytes }*  u32be 0
    destination     one byte 1, once its QEMU has all of it and stands still

What the frames carry, one behind the other, is a preamble and QEMU's migration stream. QEMU speaks to our end of a
socket pair and never to the network: who gave us the stream has made sure who is at its other end, and that nobody
else can read it. Nothing behind the end is read, so that the stream may go on to be used.
"""

import socket
import struct

import trio

from tccp.errors import HostError

FRAME = struct.Struct(">I")
FRAME_BYTES_MAX = 256 << 10
SOCKET_BYTES = 1 << 20
ALL_HERE = b"\1"


def state_sockets() -> tuple[socket.socket, socket.socket]:
    """Our end and QEMU's."""
    pair = socket.socketpair()
    for one in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            one.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
    return pair


async def relay_out(ours: trio.socket.SocketType, stream: trio.abc.SendStream) -> None:
    """Send what QEMU writes, until it closes its end; `send_end` says whether that was all.

    Raises:
        HostError: ``stream_broken``.
    """
    buffer = bytearray(FRAME.size + FRAME_BYTES_MAX)
    view = memoryview(buffer)
    try:
        while length := await ours.recv_into(view[FRAME.size :]):
            FRAME.pack_into(buffer, 0, length)
            await stream.send_all(view[: FRAME.size + length])
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        raise HostError("stream_broken", f"sending the state: {problem or type(problem).__name__}") from problem


async def send_piece(stream: trio.abc.SendStream, piece: bytes) -> None:
    """Send something of our own, no more than a frame may have.

    Raises:
        HostError: ``stream_broken``.
    """
    assert 0 < len(piece) <= FRAME_BYTES_MAX
    await _send(stream, FRAME.pack(len(piece)) + piece)


async def send_end(stream: trio.abc.Stream) -> None:
    """Say that this was all, and wait until it is all there.

    Raises:
        HostError: ``stream_broken``: nobody says so.
    """
    await _send(stream, FRAME.pack(0))
    try:
        answer = await stream.receive_some(1)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        answer = b""
    if bytes(answer) != ALL_HERE:
        raise HostError("stream_broken", "the other node does not say that it has the whole state")


async def relay_in(stream: trio.abc.ReceiveStream, ours: trio.socket.SocketType) -> None:
    """Hand what arrives to QEMU, to the end.

    Raises:
        HostError: ``stream_broken``: it ends before its end, or ``state_malformed``.
    """
    try:
        while length := FRAME.unpack(await _receive(stream, FRAME.size))[0]:
            if length > FRAME_BYTES_MAX:
                raise HostError("state_malformed", f"a frame of {length} bytes")
            while length:
                data = await stream.receive_some(length)
                if not data:
                    raise HostError("stream_broken", "the state ends in the middle")
                await _hand_over(ours, data)
                length -= len(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        raise HostError("stream_broken", f"receiving the state: {problem}") from problem


async def say_all_is_here(stream: trio.abc.SendStream) -> None:
    """To the source, which waits for it.

    Raises:
        HostError: ``stream_broken``: it does not any more.
    """
    await _send(stream, ALL_HERE)


async def _hand_over(ours: trio.socket.SocketType, data: bytes | bytearray) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[await ours.send(view) :]
    except OSError:
        raise HostError("state_refused", "QEMU reads no further") from None


async def _receive(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    received = b""
    while len(received) < count:
        data = await stream.receive_some(count - len(received))
        if not data:
            raise HostError("stream_broken", "the state ends in the middle")
        received += data
    return received


async def _send(stream: trio.abc.SendStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        raise HostError("stream_broken", f"sending the state: {problem}") from problem
