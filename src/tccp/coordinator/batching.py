"""What waits for the same expensive step is taken together."""

import heapq
import itertools
from collections.abc import Iterator
from typing import Generic, TypeVar

import trio

T = TypeVar("T")
V = TypeVar("V")


class Waiting(Generic[T, V]):
    """One request, and where its outcome goes."""

    def __init__(self, request: T) -> None:
        self.request = request
        self._done = trio.Event()
        self._outcome: V | Exception | None = None

    async def outcome(self) -> V:
        """What came of it; raises when that is an exception."""
        await self._done.wait()
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def settle(self, outcome: V | Exception) -> None:
        """Wake who waits."""
        self._outcome = outcome
        self._done.set()


class WaitingInOrder(Generic[V]):
    """Requests that a growing number fulfils, the lowest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiting[int, V]]] = []
        self._order = itertools.count()

    def add(self, number: int) -> Waiting[int, V]:
        """One who waits until the number has grown to *number*."""
        waiting: Waiting[int, V] = Waiting(number)
        heapq.heappush(self._heap, (number, next(self._order), waiting))
        return waiting

    def up_to(self, number: int) -> frozenset[int]:
        """What is waited for, as far as *number*."""
        return frozenset(wanted for wanted, _, _ in self._heap if wanted <= number)

    def pop(self, number: int) -> Iterator[Waiting[int, V]]:
        """Those whom *number* fulfils; they wait here no longer."""
        while self._heap and self._heap[0][0] <= number:
            yield heapq.heappop(self._heap)[2]

    def fail(self, problem: Exception) -> None:
        """Tell all who wait that it will not come now."""
        for waiting in self.pop(max((number for number, _, _ in self._heap), default=0)):
            waiting.settle(problem)


async def next_batch(receive: "trio.MemoryReceiveChannel[T]", items_max: int) -> list[T]:
    """All that has arrived since the last batch was dealt with, at least one, at most *items_max*."""
    batch = [await receive.receive()]
    while len(batch) < items_max:
        try:
            batch.append(receive.receive_nowait())
        except trio.WouldBlock:
            break
    return batch
