"""Bytes between a wire to another node and a socket to our QEMU, both ways, in a thread.

    QEMU <-> socket pair <-> pump <-> TLS <-> pump <-> socket pair <-> QEMU

QEMU speaks to our end of a socket pair and never to the network: who made the wire has made sure who is at its other
end, and that nobody else can read it.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from tccp.errors import HostError
from tccp.transport.bulk_stream import BulkWire

BUFFER_BYTES = 256 << 10
BUFFERS_IN_ONE_GO = 16
SOCKET_BYTES = 1 << 20
PUMPS_MAX = 4096  # threads that mostly wait; of their own, so that nobody else has to wait for one

_limiter: "trio.lowlevel.RunVar[trio.CapacityLimiter]" = trio.lowlevel.RunVar("pumps")


def state_sockets() -> tuple[socket.socket, socket.socket]:
    """Our end and QEMU's."""
    pair = socket.socketpair()
    for one in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            one.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
    return pair


class _LocalError(OSError):
    """QEMU's end of the socket is closed for what we have for it."""


@dataclass(slots=True)
class _Way:
    """One direction, a buffer at a time."""

    read: Callable[[memoryview], int]
    write: Callable[[memoryview], int]
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(BUFFER_BYTES)))
    rest: memoryview = field(default_factory=lambda: memoryview(b""))
    is_over: bool = False  # nothing more comes, and all of it was taken
    carried: int = 0

    def move(self) -> bool:
        """Move what can be moved just now; whether there may be more."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(BUFFERS_IN_ONE_GO):
                if not self.rest:
                    self.rest = self.buffer[: self.read(self.buffer)]
                    if not self.rest:
                        self.is_over = True
                        return False
                while self.rest:
                    count = self.write(self.rest)
                    self.carried += count
                    self.rest = self.rest[count:]
            return True
        return False


class Pump:
    """Carries both ways between *wire* and *local*, our end of a socket pair, until QEMU closes its end."""

    def __init__(self, wire: BulkWire, local: socket.socket) -> None:
        self._wire, self._local = wire, local
        self._there = _Way(local.recv_into, wire.write)
        self._back = _Way(wire.read_into, self._hand_over)

    @property
    def sent_bytes(self) -> int:
        """How much has gone to the other node so far."""
        return self._there.carried

    async def run(self) -> None:
        """Return once QEMU has closed its end, and all that it wrote is on its way.

        Raises:
            HostError: ``stream_broken``: the wire is, or its other end has been closed. ``state_refused``: QEMU reads
                no further.
        """
        try:
            limiter = _limiter.get()
        except LookupError:
            limiter = trio.CapacityLimiter(PUMPS_MAX)
            _limiter.set(limiter)
        self._local.setblocking(False)
        stop = os.eventfd(0, os.EFD_CLOEXEC)

        async def stop_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                os.eventfd_write(stop, 1)

        problem: HostError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_when_cancelled)
                problem = await trio.to_thread.run_sync(self._carry, stop, limiter=limiter)
                nursery.cancel_scope.cancel()
        finally:
            os.close(stop)
        if problem is not None:
            raise problem

    def _carry(self, stop: int) -> HostError | None:
        """In a thread; what has gone wrong."""
        there, back = self._there, self._back
        poller = select.poll()
        poller.register(stop, select.POLLIN)
        try:
            while True:
                is_more = there.move()
                if there.is_over:
                    return None
                is_more |= back.move()
                if back.is_over:
                    return HostError("stream_broken", "the other node has closed the stream")
                _want(poller, self._local.fileno(), reads=not there.rest, writes=bool(back.rest))
                _want(poller, self._wire.fileno(), reads=not back.rest, writes=bool(there.rest))
                if any(descriptor == stop for descriptor, _ in poller.poll(0 if is_more else None)):
                    return None
        except _LocalError as problem:
            return HostError("state_refused", f"QEMU reads no further: {problem}")
        except OSError as problem:
            return HostError("stream_broken", str(problem))

    def _hand_over(self, view: memoryview) -> int:
        try:
            return self._local.send(view)
        except BlockingIOError:
            raise
        except OSError as problem:
            raise _LocalError(str(problem)) from None


def _want(poller: "select.poll", descriptor: int, *, reads: bool, writes: bool) -> None:
    """What is not asked for is not told either: a socket that nobody is interested in would wake us for ever."""
    wanted = (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)
    if wanted:
        poller.register(descriptor, wanted)
    else:
        with contextlib.suppress(KeyError):
            poller.unregister(descriptor)
