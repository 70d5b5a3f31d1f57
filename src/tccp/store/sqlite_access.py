"""How the store on SQLite gets at its database: a writer thread, and two readers.

A look-up by key takes microseconds, less than handing it to a thread, so the loop does it itself. In write-ahead
logging readers and the writer never wait for each other, and a reader sees all that was acknowledged before it asked.
"""

import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import trio

from tccp.errors import StoreError
from tccp.store.errors import errors_of_sqlite
from tccp.store.writer import GroupWriter

P = ParamSpec("P")
T = TypeVar("T")


class SqliteAccess:
    """The three connections of an open database; who made them closes them.

    Args:
        writing: For the writer thread, which carries *epoch*.
        keyed: Reads by key, in the loop.
        paged: Reads all else, in worker threads, one after the other.

    Attributes:
        changes: Grows with each group of transactions, and at the end.
    """

    def __init__(
        self, writing: sqlite3.Connection, epoch: int, keyed: sqlite3.Connection, paged: sqlite3.Connection
    ) -> None:
        self._keyed = keyed
        self._paged = paged
        self._paged_lock = trio.Lock()
        self.changes = 0
        self._watchers = trio.lowlevel.ParkingLot()
        self._closed = False
        self.writer = GroupWriter(writing, epoch, self._on_change)

    async def aclose(self) -> None:
        """Finish the transactions that wait, and begin none and no look-up any more."""
        with trio.CancelScope(shield=True):
            await self.writer.aclose()
            self._closed = True
            self._on_change()
            async with self._paged_lock:  # a page that is being read in a thread
                pass

    async def wait_for_change(self, seen: int) -> None:
        """Return once `changes` is no longer *seen*."""
        if self.changes == seen:
            await self._watchers.park()

    def _on_change(self) -> None:
        self.changes += 1
        self._watchers.unpark_all()

    async def look_up(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What *query*, which takes microseconds, finds by a key.

        Raises:
            StoreError: ``closed``, or as `errors_of_sqlite`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        with errors_of_sqlite():
            return query(self._keyed, *args, **kwargs)

    async def read_page(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What *query*, which may take a while, finds; raises as `look_up`."""
        async with self._paged_lock:
            self._check_open()
            with errors_of_sqlite():
                return await trio.to_thread.run_sync(lambda: query(self._paged, *args, **kwargs))

    def check(self) -> None:
        """Whether anything can still be written; raises as `GroupWriter.check`."""
        self.writer.check()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("closed")
