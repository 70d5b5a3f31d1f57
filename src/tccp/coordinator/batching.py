"""What waits for the same expensive step is taken together."""

from collections.abc import AsyncIterator
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


async def batches(receive: "trio.MemoryReceiveChannel[T]", items_max: int) -> AsyncIterator[list[T]]:
    """All that has arrived since the last batch was dealt with, at least one, at most *items_max*."""
    async for first in receive:
        batch = [first]
        while len(batch) < items_max:
            try:
                batch.append(receive.receive_nowait())
            except trio.WouldBlock:
                break
        yield batch
