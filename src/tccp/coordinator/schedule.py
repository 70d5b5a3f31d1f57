"""When something is to be done about which session: due times in a heap, of which only a session's newest counts."""

import heapq
import itertools
import math
from collections.abc import Iterator

import trio

from tccp.coordinator.sessions import NodeSession

TICK_S = 0.02  # due times this close together are dealt with at once


class Schedule:
    """The due times of all sessions; one task waits, and takes those that are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, NodeSession]] = []
        self._order = itertools.count()
        self._sooner = trio.Event()

    def plan(self, session: NodeSession, due: float) -> None:
        """*session* is due then (trio time), and at no other time that it was planned for before."""
        session.due = due
        heapq.heappush(self._heap, (due, next(self._order), session))
        if self._heap[0][2] is session:
            self._sooner.set()

    def due(self) -> Iterator[NodeSession]:
        """Those that are due now. Whoever takes one plans it anew, or it is never due again."""
        now = trio.current_time()
        while self._heap and self._heap[0][0] <= now:
            due, _, session = heapq.heappop(self._heap)
            if session.due == due and not session.ended:  # else it was planned anew since
                yield session

    async def wait(self) -> None:
        """Return when the next one is due, and those that are due soon after."""
        self._sooner = trio.Event()
        with trio.move_on_at(self._heap[0][0] if self._heap else math.inf):
            await self._sooner.wait()
        await trio.sleep(TICK_S)
