"""The group-commit writer: one thread owns the connection that writes, and one fsync acknowledges many transactions.

    tasks --(a deque)--> writer thread: BEGIN IMMEDIATE, compare the fence,
                                        a savepoint for each transaction, COMMIT (fsync)
    tasks <--(one call into the loop wakes all of the group)--

While a group is being synced the next one gathers.
"""

import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from tccp.errors import StoreError
from tccp.measures import Durations
from tccp.store.errors import FencedError, store_error

TRANSACTIONS_PER_GROUP = 1_024

P = ParamSpec("P")
T = TypeVar("T")


class _Job:
    """A task that waits, and what it waits for. *task* is None when it was cancelled meanwhile."""

    __slots__ = ("error", "task", "value", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.value: Any = None
        self.error: Exception | None = None


class GroupWriter:
    """Runs transactions on *connection* in a thread of its own, each whole and durable, or not at all.

    Must be made in a trio task; `run` is for tasks of the same loop. A task that is cancelled while it
    waits goes on at once; its transaction may happen or may have happened. The store does not tell.

    Args:
        connection: Used by the writer thread alone from now on.
        epoch: The epoch that `tccp.store.schema.take_over` gave; a group under any other one is refused.
        on_change: Called in the loop after each group.
    """

    def __init__(self, connection: sqlite3.Connection, epoch: int, on_change: Callable[[], None]) -> None:
        self.epoch = epoch
        self.commits = Durations()  # of whole groups, with their fsync
        self._connection = connection
        self._on_change = on_change
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: deque[_Job] = deque()
        self._arrived = threading.Event()
        self._closing = False
        self._fenced: FencedError | None = None
        self._thread = threading.Thread(target=self._write, name="tccp-store-writer", daemon=True)
        self._thread.start()

    async def run(
        self, transaction: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run *transaction* on the connection, and return what it returned once that is durable.

        Raises:
            ConflictError: From *transaction*, like any other exception it raises; nothing of it remains.
            FencedError: Another coordinator has the database; nothing was written.
            StoreError: The disk is full, the database cannot be written, or the store is closed; nothing was written.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check()
        job = _Job(lambda connection: transaction(connection, *args, **kwargs))
        self._waiting.append(job)
        self._arrived.set()
        value: T = await _wait(job)
        return value

    async def aclose(self) -> None:
        """Refuse new transactions, finish those that wait, checkpoint, and close the connection."""
        self._closing = True
        self._arrived.set()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)

    def check(self) -> None:
        """Whether this writer may still write, as far as it knows.

        Raises:
            FencedError: A transaction was refused before: another coordinator has the database.
            StoreError: ``closed``.
        """
        if self._fenced is not None:
            raise FencedError(*self._fenced.epochs)
        if self._closing:
            raise StoreError("closed")

    # ---- in the writer thread ----

    def _write(self) -> None:
        try:
            while not self._closing or self._waiting:
                self._arrived.wait()
                # Cleared before the queue is emptied: what comes in between is at worst woken for twice.
                self._arrived.clear()
                while self._waiting:
                    group = [self._waiting.popleft() for _ in range(min(len(self._waiting), TRANSACTIONS_PER_GROUP))]
                    with self.commits.measure():
                        self._execute(group)
                    self._token.run_sync_soon(self._release, group)
        except trio.RunFinishedError:
            pass  # the loop is gone, and with it everybody who waits
        finally:
            self._closing = True
            self._close_connection()
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._give_up)

    def _execute(self, group: list[_Job]) -> None:
        """One group. Afterwards every job has its value or error, and what has a value is on the disk."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._compare_fence()
            for job in group:
                self._execute_one(job)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 every waiting task must be told, whatever it was
            self._roll_back()
            for job in group:
                job.error = _copy_for_one_task(error)

    def _execute_one(self, job: _Job) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT one")
        try:
            job.value = job.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise  # SQLite has rolled everything back (disk full, I/O error): the group is lost
            connection.execute("ROLLBACK TO one")
            job.error = store_error(error) if isinstance(error, sqlite3.Error) else error
        connection.execute("RELEASE one")

    def _compare_fence(self) -> None:
        (current,) = self._connection.execute("SELECT epoch FROM fence").fetchone()
        if current != self.epoch:
            self._fenced = FencedError(self.epoch, current)
            raise self._fenced

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back by itself, and a ROLLBACK of ours would be the error.
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _close_connection(self) -> None:
        try:
            if self._fenced is None:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            return  # the write-ahead log stays beside the database and is read at the next start
        finally:
            self._connection.close()

    # ---- in the loop ----

    def _give_up(self) -> None:
        """Tell those who still wait: nobody does after a close, everybody does when a bug has ended the thread.

        In the loop, where nobody is about to join them: since `_closing` was set, whoever comes is refused.
        """
        left = list(self._waiting)
        for job in left:
            job.error = StoreError("closed")
        self._release(left)

    def _release(self, group: list[_Job]) -> None:
        for job in group:
            if job.task is not None:
                trio.lowlevel.reschedule(job.task)
        self._on_change()


async def _wait(job: _Job) -> Any:
    def abort(_: object) -> trio.lowlevel.Abort:
        job.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    await trio.lowlevel.wait_task_rescheduled(abort)
    if job.error is not None:
        raise job.error
    return job.value


def _copy_for_one_task(error: Exception) -> Exception:
    """*error* for one of many tasks: raising one object in all of them would mix their tracebacks."""
    if isinstance(error, FencedError):
        return FencedError(*error.epochs)
    if isinstance(error, sqlite3.Error):
        error = store_error(error)
    if isinstance(error, StoreError):
        return StoreError(error.reason, error.detail, hint=error.hint)
    return error
