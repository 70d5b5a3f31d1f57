"""What a store raises, and the one place where an error of SQLite becomes one of ours.

    StoreError            the database failed: disk_full, io_error, damaged, locked, read_only, cannot_open, closed
    '- FencedError        another coordinator has taken the database over; this one can write nothing more
    ConflictError         the database works, and its state says no; nothing was written

A `ConflictError` is not a `StoreError`: who retries when the disk failed must not retry when a node is revoked.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tccp.errors import StoreError, TccpError

_REASONS = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_PERM: "cannot_open",
}
_HINTS = {
    "disk_full": "Give the file system that holds the database more space; the store goes on by itself.",
    "damaged": "Restore the database from a backup; do not start with an empty one, or revoked nodes come back.",
    "locked": "Another program holds the database; end it.",
}


class FencedError(StoreError):
    """Another coordinator has opened the database since; only a restart helps, and it should be a decision."""

    def __init__(self, mine: int, current: int) -> None:
        super().__init__("fenced", f"opened with epoch {mine}, the database is at epoch {current}")
        self.epochs = (mine, current)


class ConflictError(TccpError):
    """The state of the store forbids the transaction; nothing was written.

    ``reason`` is one of: ``node_exists``, ``node_unknown``, ``node_revoked``, ``node_not_revoked``, ``ek_bound`` (the
    EK belongs to another name), ``name_bound`` (the name belongs to another EK), ``policy_not_newer``,
    ``policy_unknown``, ``policy_changed`` (not the policy version in force for this node), ``lease_unknown``,
    ``lease_ended``, ``lease_expired``, ``counters_moved`` (resetCount or restartCount), ``clock_went_back``; or, of
    tenants and VMs, what `Store.release` and `Store.end_vm` list.
    """


def store_error(error: sqlite3.Error) -> StoreError | sqlite3.Error:
    """*error* as a `StoreError` when disk or file is to blame; itself when tccp is (a constraint, a bad call)."""
    code = getattr(error, "sqlite_errorcode", None)
    reason = _REASONS.get(code & 0xFF) if code is not None else None
    if reason is None:
        return error
    return StoreError(reason, f"{error} ({error.sqlite_errorname})", hint=_HINTS.get(reason, ""))


@contextmanager
def errors_of_sqlite() -> Iterator[None]:
    """What SQLite raises here comes out as `store_error` has it."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error) from error
