"""A peer that stands still in the middle of a move is found by its silence, on all streams of the move together.

TCP tells of a peer that has gone, and not of one whose processes were stopped, or whose host hangs. Something of what a
move does goes through one stream or another all the time; who waits for longer than a peer may take to start a machine
waits in vain. The guest may be standing still meanwhile, so the source is the one with less patience.
"""

from collections.abc import Callable

import trio

from tccp.errors import HostError

SENDING_S = 20.0
RECEIVING_S = 60.0
LOOK_S = 1.0


def silent(patience_s: float) -> HostError:
    """The error that it is."""
    return HostError("peer_silent", f"nothing from the other node in {patience_s:.0f} s, and it takes nothing")


async def notice_silence(gone_through: Callable[[], int], patience_s: float) -> None:
    """Runs beside what must not wait for ever.

    Args:
        gone_through: How much has, so far.

    Raises:
        HostError: ``peer_silent``: it has not grown for so long.
    """
    before, since = gone_through(), trio.current_time()
    while trio.current_time() - since < patience_s:
        await trio.sleep(min(LOOK_S, patience_s))
        if (now := gone_through()) != before:
            before, since = now, trio.current_time()
    raise silent(patience_s)
