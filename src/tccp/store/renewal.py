"""Renewals: by far the most frequent transaction, so many of them are one statement.

A statement of SQLite is whole or nothing, and a refused renewal is a row that the statement does not touch: no
savepoints are needed. Python gives the interpreter lock away once a statement; one for each renewal would have the
writer wait for the busy event loop as often.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from tccp.store.errors import ConflictError
from tccp.store.queries import clock_to_sql
from tccp.store.records import LEASE_ID_BYTES, check_bytes, check_clock, check_lease_times
from tccp.store.transactions import no_open_lease, policy_changed

# How many renewals a statement has room for: the small one serves a quiet store. Unused places hold NULL.
BATCH_SIZES = (8, 32, 128)
_COLUMNS = 8
_UPDATE = """UPDATE open_lease SET renewed_ms = batch.column2, expires_ms = batch.column3, clock = batch.column6,
    policy = batch.column7, policy_version = batch.column8
    FROM (VALUES {places}) AS batch
    WHERE open_lease.lease_id = batch.column1
    AND open_lease.expires_ms > batch.column2
    AND open_lease.reset_count = batch.column4
    AND open_lease.restart_count = batch.column5
    AND open_lease.clock <= batch.column6
    AND batch.column7 = (SELECT policy FROM node WHERE node.name = open_lease.node)
    AND batch.column8 = (SELECT max(version) FROM policy WHERE policy.name = batch.column7)"""
_STATEMENTS = {size: _UPDATE.format(places=", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * size)) for size in BATCH_SIZES}


@dataclass(frozen=True, slots=True)
class Renewal:
    """A fresh quote was judged at *at_ms* by that version of that policy: the lease now holds until *expires_ms*."""

    lease_id: bytes
    at_ms: int
    expires_ms: int
    reset_count: int
    restart_count: int
    clock_ms: int
    policy: str
    policy_version: int

    def __post_init__(self) -> None:
        """Refuse what no lease could become."""
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_lease_times(self.at_ms, self.expires_ms)
        check_clock(self.reset_count, self.restart_count, self.clock_ms)


def renew_leases(connection: sqlite3.Connection, renewals: Sequence[Renewal]) -> list[ConflictError | None]:
    """Renew every lease that may be renewed; for each renewal None, or why not."""
    verdicts: list[ConflictError | None] = []
    for start in range(0, len(renewals), BATCH_SIZES[-1]):
        batch = renewals[start : start + BATCH_SIZES[-1]]
        # Two renewals of one lease in one statement: SQLite would take either. They follow each other instead.
        if len({renewal.lease_id for renewal in batch}) < len(batch):
            for renewal in batch:
                verdicts += _renew_batch(connection, [renewal])
        else:
            verdicts += _renew_batch(connection, batch)
    return verdicts


def _renew_batch(connection: sqlite3.Connection, batch: Sequence[Renewal]) -> list[ConflictError | None]:
    size = next(size for size in BATCH_SIZES if len(batch) <= size)
    values: list[object] = []
    for renewal in batch:
        values += (
            renewal.lease_id,
            renewal.at_ms,
            renewal.expires_ms,
            renewal.reset_count,
            renewal.restart_count,
            clock_to_sql(renewal.clock_ms),
            renewal.policy,
            renewal.policy_version,
        )
    values += (None,) * (_COLUMNS * (size - len(batch)))
    if connection.execute(_STATEMENTS[size], values).rowcount == len(batch):
        return [None] * len(batch)
    # A renewed row still fulfils every condition of its own renewal, so asking again finds exactly the refused ones.
    return [_why_refused(connection, renewal) for renewal in batch]


def _why_refused(connection: sqlite3.Connection, renewal: Renewal) -> ConflictError | None:
    row = connection.execute(
        "SELECT node, expires_ms, reset_count, restart_count, clock, node.policy,"
        " (SELECT max(version) FROM policy WHERE policy.name = node.policy)"
        " FROM open_lease JOIN node ON node.name = open_lease.node WHERE lease_id = ?",
        (renewal.lease_id,),
    ).fetchone()
    if row is None:
        return no_open_lease(connection, renewal.lease_id)
    node, expires_ms, reset_count, restart_count, clock, policy, version = row
    if expires_ms <= renewal.at_ms:
        return ConflictError("lease_expired", f"{node}: at {expires_ms}, it is {renewal.at_ms}")
    if (reset_count, restart_count) != (renewal.reset_count, renewal.restart_count):
        found = f"resetCount {renewal.reset_count}, restartCount {renewal.restart_count}"
        return ConflictError("counters_moved", f"{node}: {found}, at admission {reset_count} and {restart_count}")
    if clock > clock_to_sql(renewal.clock_ms):
        return ConflictError("clock_went_back", f"{node}: from {int.from_bytes(clock, 'big')} to {renewal.clock_ms}")
    if (policy, version) != (renewal.policy, renewal.policy_version):
        return policy_changed(node, (renewal.policy, renewal.policy_version), (policy, version))
    return None
