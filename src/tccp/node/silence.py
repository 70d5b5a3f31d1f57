"""A peer that stands still in the middle of a move is found by its silence, on all streams of the move together.

TCP tells of a peer that has gone, and not of one whose processes were stopped, or whose host hangs. Something of what a
move does goes through one stream or another all the time; who waits for longer than a peer may take to start a machine
waits in vain. The guest may be standing still meanwhile, so the source is the one with less patience.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from tccp.errors import HostError
from tccp.node.vm.alone import together

SENDING_S = 20.0
RECEIVING_S = 60.0
LOOK_S = 1.0


class Counting(Protocol):
    """A stream that counts."""

    sent_bytes: int
    received_bytes: int


@asynccontextmanager
async def listening(streams: Sequence[Counting], patience_s: float) -> AsyncGenerator[trio.CancelScope]:
    """End what the block does once nothing has gone through any of its *streams* for so long.

    What we say on the first of them does not count: a peer need not read it to let us say it.

    Yields:
        Cancelled, it listens no more, and the block goes on.

    Raises:
        HostError: ``peer_silent``.
    """
    async with together() as begin:
        watching = trio.CancelScope()
        begin(_watch, streams, patience_s, watching)
        yield watching
        watching.cancel()


async def _watch(streams: Sequence[Counting], patience_s: float, watching: trio.CancelScope) -> None:
    with watching:
        before, since = _gone_through(streams), trio.current_time()
        while trio.current_time() - since < patience_s:
            await trio.sleep(min(LOOK_S, patience_s / 4))
            if (now := _gone_through(streams)) != before:
                before, since = now, trio.current_time()
        raise HostError("peer_silent", f"nothing from the other node in {patience_s:.0f} s, and it takes nothing")


def _gone_through(streams: Sequence[Counting]) -> int:
    return sum(stream.received_bytes for stream in streams) + sum(stream.sent_bytes for stream in streams[1:])
