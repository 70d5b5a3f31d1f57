"""A peer that stands still in the middle of a move is found by its silence, on all streams of the move together.

TCP tells of a peer that has gone, and not of one whose processes were stopped, or whose host hangs. What a move does
sends or receives something on one stream or another all the time; who waits for longer than a peer may take to start a
machine waits in vain. The guest may be standing still meanwhile, so the source is the one with less patience.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from tccp.errors import HostError

SENDING_S = 20.0
RECEIVING_S = 60.0


@dataclass(slots=True)
class Watch:
    """Streams that are watched, made by `listening`."""

    streams: Sequence[trio.abc.Stream] = ()
    _patience_s: float = 0.0
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)

    def heard(self) -> None:
        """Something has gone through."""
        if self._scope.deadline < math.inf:
            self._scope.deadline = trio.current_time() + self._patience_s

    def stop(self) -> None:
        """From now on nothing has to be said."""
        self._scope.deadline = math.inf


@contextmanager
def listening(streams: Sequence[trio.abc.Stream], patience_s: float) -> Iterator[Watch]:
    """End what the block does once nothing has gone through any of its *streams* for so long.

    Raises:
        HostError: ``peer_silent``.
    """
    with trio.CancelScope(deadline=trio.current_time() + patience_s) as scope:
        watch = Watch((), patience_s, scope)
        watch.streams = [_Watched(stream, watch) for stream in streams]
        yield watch
    if scope.cancelled_caught:
        raise HostError("peer_silent", f"nothing from the other node in {patience_s:.0f} s, and it takes nothing")


class _Watched(trio.abc.Stream):
    """A stream that tells when it is used."""

    def __init__(self, inner: trio.abc.Stream, watch: Watch) -> None:
        self._inner, self._watch = inner, watch

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)
        self._watch.heard()

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        received = await self._inner.receive_some(max_bytes)
        self._watch.heard()
        return received

    async def aclose(self) -> None:
        await self._inner.aclose()
