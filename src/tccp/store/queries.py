"""Reading: every SELECT that returns records, as functions of a connection."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from tccp.model import NodeName
from tccp.store.records import EventRecord, LeaseRecord, NodeRecord, PolicyRecord, StoreCounts

Row = tuple[Any, ...]

_NODE = """SELECT node.name, binding.ek_id, node.policy, node.enrolled_ms, node.ek_public, node.revoked_ms,
    node.revoke_reason, node.attributes FROM node JOIN binding ON binding.name = node.name """
_POLICY = "SELECT name, version, body, sha256, added_ms FROM policy "
_LEASE_COLUMNS = "lease.lease_id, lease.node, boot_id, ak_name, tls_spki_sha256, identity, issued_ms"
_OPEN_LEASE = f"""SELECT {_LEASE_COLUMNS}, open_lease.policy, open_lease.policy_version, open_lease.renewed_ms,
    open_lease.expires_ms, open_lease.reset_count, open_lease.restart_count, open_lease.clock, NULL, NULL
    FROM open_lease JOIN lease ON lease.lease_id = open_lease.lease_id """  # noqa: S608 our own column names
_ENDED_LEASE = f"""SELECT {_LEASE_COLUMNS}, policy, policy_version, renewed_ms, expires_ms, reset_count,
    restart_count, clock, ended_ms, end_reason FROM lease WHERE ended_ms IS NOT NULL """  # noqa: S608 our own column names
_EVENT = "SELECT seq, at_ms, kind, node, body FROM event "


def clock_to_sql(clock_ms: int) -> bytes:
    """A TPM's clock as the column holds it: SQLite's integers have a sign, and 8 big-endian bytes sort alike."""
    return clock_ms.to_bytes(8, "big")


def node_by_name(connection: sqlite3.Connection, name: NodeName) -> NodeRecord | None:
    """The node enrolled as *name*."""
    row = connection.execute(_NODE + "WHERE node.name = ?", (name.value,)).fetchone()
    return None if row is None else _node(row)


def node_by_ek(connection: sqlite3.Connection, ek_id: bytes) -> NodeRecord | None:
    """The node with this endorsement key, while it is enrolled."""
    row = connection.execute(_NODE + "WHERE binding.ek_id = ?", (ek_id,)).fetchone()
    return None if row is None else _node(row)


def nodes(connection: sqlite3.Connection, after: NodeName | None, limit: int) -> list[NodeRecord]:
    """At most *limit* nodes in order of name, from the one after *after* on."""
    start = "" if after is None else after.value
    return [
        _node(row)
        for row in connection.execute(_NODE + "WHERE node.name > ? ORDER BY node.name LIMIT ?", (start, limit))
    ]


def policies(connection: sqlite3.Connection) -> list[PolicyRecord]:
    """The newest version of each policy, in order of name."""
    newest = "WHERE version = (SELECT max(version) FROM policy AS other WHERE other.name = policy.name) ORDER BY name"
    return [PolicyRecord(*row) for row in connection.execute(_POLICY + newest)]


def policy(connection: sqlite3.Connection, name: str, version: int | None) -> PolicyRecord | None:
    """One version of a policy, or the newest."""
    if version is None:
        row = connection.execute(_POLICY + "WHERE name = ? ORDER BY version DESC LIMIT 1", (name,)).fetchone()
    else:
        row = connection.execute(_POLICY + "WHERE name = ? AND version = ?", (name, version)).fetchone()
    return None if row is None else PolicyRecord(*row)


def policy_versions(connection: sqlite3.Connection, name: str) -> list[PolicyRecord]:
    """Every version of a policy, the oldest first."""
    return [PolicyRecord(*row) for row in connection.execute(_POLICY + "WHERE name = ? ORDER BY version", (name,))]


def lease(connection: sqlite3.Connection, lease_id: bytes) -> LeaseRecord | None:
    """A lease, open or ended."""
    # One statement sees one state; two could miss a lease that ends between them.
    row = connection.execute(
        f"{_OPEN_LEASE} WHERE open_lease.lease_id = ?1 UNION ALL {_ENDED_LEASE} AND lease_id = ?1", (lease_id,)
    ).fetchone()
    return None if row is None else _lease(row)


def open_lease(connection: sqlite3.Connection, name: NodeName) -> LeaseRecord | None:
    """The open lease of a node."""
    row = connection.execute(_OPEN_LEASE + "WHERE open_lease.node = ?", (name.value,)).fetchone()
    return None if row is None else _lease(row)


def open_leases(connection: sqlite3.Connection, after: NodeName | None, limit: int) -> list[LeaseRecord]:
    """At most *limit* open leases in order of node, from the one after *after* on."""
    start = "" if after is None else after.value
    statement = _OPEN_LEASE + "WHERE open_lease.node > ? ORDER BY open_lease.node LIMIT ?"
    return [_lease(row) for row in connection.execute(statement, (start, limit))]


def leases_of(connection: sqlite3.Connection, name: NodeName, limit: int) -> list[LeaseRecord]:
    """The last *limit* leases of a node that have ended, the newest first."""
    statement = _ENDED_LEASE + "AND node = ? ORDER BY issued_ms DESC, rowid DESC LIMIT ?"
    return [_lease(row) for row in connection.execute(statement, (name.value, limit))]


def events(connection: sqlite3.Connection, since_seq: int, limit: int) -> list[EventRecord]:
    """At most *limit* events after *since_seq*, in order."""
    return [
        _event(row) for row in connection.execute(_EVENT + "WHERE seq > ? ORDER BY seq LIMIT ?", (since_seq, limit))
    ]


def events_at(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[EventRecord]:
    """These events, in order."""
    statement = _EVENT + "WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"  # noqa: S608 our own columns
    return [_event(row) for row in connection.execute(statement, (json.dumps(seqs),))]


def last_seq(connection: sqlite3.Connection) -> int:
    """The last event's place, 0 when there is none."""
    return _number(connection, "SELECT coalesce(max(seq), 0) FROM event")


def meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    """The small value kept under *key*."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def measured(connection: sqlite3.Connection, name: NodeName) -> bytes | None:
    """What was kept of a node's measurements."""
    row = connection.execute("SELECT content FROM measured WHERE node = ?", (name.value,)).fetchone()
    return None if row is None else bytes(row[0])


def nodes_by_policy(connection: sqlite3.Connection) -> dict[str, int]:
    """How many nodes each policy judges."""
    statement = "SELECT policy, count(*) FROM node WHERE revoked_ms IS NULL GROUP BY policy"
    return dict(connection.execute(statement).fetchall())


def newest_time_ms(connection: sqlite3.Connection) -> int:
    """The time of the last event or of the last renewal, whichever is later."""
    event = "SELECT at_ms FROM event ORDER BY seq DESC LIMIT 1"
    renewal = "SELECT max(renewed_ms) FROM open_lease"
    return _number(connection, f"SELECT max(coalesce(({event}), 0), coalesce(({renewal}), 0))")


def counts(connection: sqlite3.Connection) -> StoreCounts:
    """How much there is."""
    return StoreCounts(
        nodes=_number(connection, "SELECT count(*) FROM node"),
        revoked_nodes=_number(connection, "SELECT count(*) FROM node WHERE revoked_ms IS NOT NULL"),
        open_leases=_number(connection, "SELECT count(*) FROM open_lease"),
        policies=_number(connection, "SELECT count(DISTINCT name) FROM policy"),
        last_seq=last_seq(connection),
        epoch=_number(connection, "SELECT epoch FROM fence"),
        database_bytes=_number(connection, "PRAGMA page_count") * _number(connection, "PRAGMA page_size"),
    )


def _number(connection: sqlite3.Connection, statement: str, parameters: Sequence[object] = ()) -> int:
    return int(connection.execute(statement, parameters).fetchone()[0])


def _node(row: Row) -> NodeRecord:
    name, ek_id, policy_name, enrolled_ms, ek_public, revoked_ms, revoke_reason, attributes = row
    return NodeRecord(
        name=NodeName(name),
        ek_id=ek_id,
        policy=policy_name,
        enrolled_ms=enrolled_ms,
        ek_public=ek_public,
        revoked_ms=revoked_ms,
        revoke_reason=revoke_reason,
        attributes=json.loads(attributes),
    )


def _lease(row: Row) -> LeaseRecord:
    lease_id, node, boot_id, ak_name, tls_spki_sha256, identity, issued_ms, *moving = row
    policy_name, policy_version, renewed_ms, expires_ms, reset_count, restart_count, clock, ended_ms, end_reason = (
        moving
    )
    return LeaseRecord(
        lease_id=lease_id,
        node=NodeName(node),
        boot_id=boot_id,
        ak_name=ak_name,
        tls_spki_sha256=tls_spki_sha256,
        identity=identity,
        policy=policy_name,
        policy_version=policy_version,
        issued_ms=issued_ms,
        renewed_ms=renewed_ms,
        expires_ms=expires_ms,
        reset_count=reset_count,
        restart_count=restart_count,
        clock_ms=int.from_bytes(clock, "big"),
        ended_ms=ended_ms,
        end_reason=end_reason,
    )


def _event(row: Row) -> EventRecord:
    seq, at_ms, kind, node, body = row
    return EventRecord(seq, at_ms, kind, None if node is None else NodeName(node), body)
