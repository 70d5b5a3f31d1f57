"""Writing: every transaction but the renewal, as functions of a connection.

The writer calls each one inside a savepoint of its own, under the write lock and after the fence was compared: what a
function reads stays true until it returns, and when it raises nothing of it remains.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence

import msgspec.msgpack

from tccp.attestation.attributes import attributes_text, check_attributes
from tccp.model import NodeName
from tccp.store.errors import ConflictError
from tccp.store.ownership import follow_lease, forget_moves, lose_vms
from tccp.store.queries import clock_to_sql
from tccp.store.records import EndReason, EventDraft, EventKind, LeaseRecord, NodeRecord

LAPSES_PER_TRANSACTION = 256
LEASES_KEPT = 20  # of a node, beside the open one; what they were is in the log for ever
LEASES_FORGOTTEN_AT_ONCE = 64  # at an admission, which adds one: a database that kept all gets smaller, bit by bit


def append_event(connection: sqlite3.Connection, event: EventDraft) -> int:
    """Append *event*, and return its place."""
    return _append(connection, event.at_ms, event.kind, event.node, event.body)


def nothing(_: sqlite3.Connection) -> None:
    """Write nothing; that the fence was compared is enough."""


def set_meta(connection: sqlite3.Connection, key: str, value: bytes) -> None:
    """Keep *value* under *key*."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def enrol_node(connection: sqlite3.Connection, record: NodeRecord, body: bytes) -> int:
    """Bind a name to an EK for ever, and enrol it."""
    name = record.name.value
    if connection.execute("SELECT 1 FROM node WHERE name = ?", (name,)).fetchone() is not None:
        _check_binding(connection, record)
        raise ConflictError("node_exists", name)
    if not _check_binding(connection, record):
        connection.execute("INSERT INTO binding (name, ek_id) VALUES (?, ?)", (name, record.ek_id))
    connection.execute(
        "INSERT INTO node (name, ek_public, policy, enrolled_ms, revoked_ms, revoke_reason, attributes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            name,
            record.ek_public,
            record.policy,
            record.enrolled_ms,
            record.revoked_ms,
            record.revoke_reason,
            json.dumps(dict(record.attributes), sort_keys=True),
        ),
    )
    return _append(connection, record.enrolled_ms, EventKind.ENROL, record.name, body)


def import_nodes(connection: sqlite3.Connection, entries: Sequence[tuple[NodeRecord, bytes]]) -> list[NodeName]:
    """Enrol those of *entries* that are not enrolled yet, all or none, and return their names."""
    added = []
    for record, body in entries:
        if connection.execute("SELECT 1 FROM node WHERE name = ?", (record.name.value,)).fetchone() is not None:
            _check_binding(connection, record)
            continue
        enrol_node(connection, record, body)
        added.append(record.name)
    return added


def set_node_policy(connection: sqlite3.Connection, name: NodeName, policy: str, at_ms: int, body: bytes) -> int:
    """Have a node judged by another policy from its next admission on."""
    _revoked(connection, name)
    connection.execute("UPDATE node SET policy = ? WHERE name = ?", (policy, name.value))
    return _append(connection, at_ms, EventKind.ASSIGN, name, body)


def set_attributes(
    connection: sqlite3.Connection, name: NodeName, said: Mapping[str, str], taken_back: Collection[str], at_ms: int
) -> int:
    """Assert something else of a node from its next key on."""
    _revoked(connection, name)
    (before,) = connection.execute("SELECT attributes FROM node WHERE name = ?", (name.value,)).fetchone()
    after = {key: value for key, value in json.loads(before).items() if key not in taken_back} | dict(said)
    try:
        check_attributes(after)
    except ValueError as problem:
        raise ConflictError("bad_attributes", str(problem)) from None
    connection.execute("UPDATE node SET attributes = ? WHERE name = ?", (json.dumps(after, sort_keys=True), name.value))
    body = msgspec.msgpack.encode({"asserted": attributes_text(after)})
    return _append(connection, at_ms, EventKind.ATTRIBUTES, name, body)


def revoke_node(connection: sqlite3.Connection, name: NodeName, reason: str, at_ms: int, body: bytes) -> int:
    """Admit a node no more, and end its open lease."""
    if _revoked(connection, name):
        raise ConflictError("node_revoked", name.value)
    connection.execute("UPDATE node SET revoked_ms = ?, revoke_reason = ? WHERE name = ?", (at_ms, reason, name.value))
    seq = _append(connection, at_ms, EventKind.REVOKE, name, body)
    _end_open_lease(connection, name, EndReason.REVOKED, at_ms)
    forget_moves(connection, name)
    return seq


def reinstate_node(connection: sqlite3.Connection, name: NodeName, at_ms: int, body: bytes) -> int:
    """Take a revocation back; the node must register again."""
    if not _revoked(connection, name):
        raise ConflictError("node_not_revoked", name.value)
    connection.execute("UPDATE node SET revoked_ms = NULL, revoke_reason = NULL WHERE name = ?", (name.value,))
    return _append(connection, at_ms, EventKind.REINSTATE, name, body)


def remove_node(connection: sqlite3.Connection, name: NodeName, at_ms: int, body: bytes) -> int:
    """Forget a node, but not that its name and its EK belong together."""
    _revoked(connection, name)
    seq = _append(connection, at_ms, EventKind.REMOVE, name, body)
    _end_open_lease(connection, name, EndReason.REMOVED, at_ms)
    forget_moves(connection, name)
    connection.execute("DELETE FROM node WHERE name = ?", (name.value,))
    return seq


def keep_measured(connection: sqlite3.Connection, entries: Sequence[tuple[NodeName, bytes]]) -> None:
    """Keep what is known of the measurements of some nodes; no event."""
    connection.executemany(
        "INSERT INTO measured (node, content) SELECT name, ?2 FROM node WHERE name = ?1"
        " ON CONFLICT (node) DO UPDATE SET content = excluded.content",
        [(name.value, content) for name, content in entries],
    )


def admit(connection: sqlite3.Connection, lease: LeaseRecord, body: bytes) -> int:
    """Open *lease* in the place of the node's older one."""
    name = lease.node.value
    row = connection.execute(
        "SELECT revoked_ms, policy, (SELECT max(version) FROM policy WHERE policy.name = node.policy),"
        " EXISTS (SELECT 1 FROM open_lease WHERE open_lease.node = node.name) FROM node WHERE name = ?",
        (name,),
    ).fetchone()
    if row is None:
        raise ConflictError("node_unknown", name)
    revoked_ms, policy, version, has_lease = row
    if revoked_ms is not None:
        raise ConflictError("node_revoked", name)
    if version is None:
        raise ConflictError("policy_unknown", policy)
    if (policy, version) != (lease.policy, lease.policy_version):
        raise policy_changed(name, (lease.policy, lease.policy_version), (policy, version))
    if has_lease:
        _end_open_lease(connection, lease.node, EndReason.REPLACED, lease.issued_ms)
    connection.execute(
        "INSERT INTO lease (lease_id, node, boot_id, ak_name, tls_spki_sha256, identity, issued_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            lease.lease_id,
            name,
            lease.boot_id,
            lease.ak_name,
            lease.tls_spki_sha256,
            lease.identity,
            lease.issued_ms,
        ),
    )
    connection.execute(
        "INSERT INTO open_lease (lease_id, node, policy, policy_version, renewed_ms, expires_ms, reset_count,"
        " restart_count, clock) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            lease.lease_id,
            name,
            policy,
            version,
            lease.renewed_ms,
            lease.expires_ms,
            lease.reset_count,
            lease.restart_count,
            clock_to_sql(lease.clock_ms),
        ),
    )
    follow_lease(connection, lease.node, lease.boot_id, lease.lease_id, lease.issued_ms)
    _forget_leases(connection, name)
    return _append(connection, lease.issued_ms, EventKind.ADMIT, lease.node, body)


def end_lease(connection: sqlite3.Connection, lease_id: bytes, reason: str, at_ms: int) -> int:
    """End an open lease."""
    row = connection.execute("SELECT node FROM open_lease WHERE lease_id = ?", (lease_id,)).fetchone()
    if row is None:
        raise no_open_lease(connection, lease_id)
    return _end(connection, lease_id, NodeName(row[0]), reason, at_ms)


def lapse_leases(connection: sqlite3.Connection, now_ms: int) -> list[tuple[bytes, NodeName]]:
    """End some of the leases that have expired: at most `LAPSES_PER_TRANSACTION`, so that others need not wait."""
    expired = connection.execute(
        "SELECT lease_id, node FROM open_lease WHERE expires_ms <= ? LIMIT ?", (now_ms, LAPSES_PER_TRANSACTION)
    ).fetchall()
    lapsed = [(bytes(lease_id), NodeName(name)) for lease_id, name in expired]
    for lease_id, name in lapsed:
        _end(connection, lease_id, name, EndReason.LAPSED, now_ms)
    return lapsed


def no_open_lease(connection: sqlite3.Connection, lease_id: bytes) -> ConflictError:
    """Why there is no open lease of this id."""
    row = connection.execute("SELECT end_reason, node FROM lease WHERE lease_id = ?", (lease_id,)).fetchone()
    if row is None:
        return ConflictError("lease_unknown", lease_id.hex())
    return ConflictError("lease_ended", f"{row[1]}: {row[0]}")


def _forget_leases(connection: sqlite3.Connection, name: str) -> None:
    """Forget the oldest leases of the node beyond its newest, but none under which a VM runs, or ran last.

    Some at a time, so that no admission waits for a database that has kept hundreds.
    """
    forgettable = (
        "FROM lease WHERE node = ?1 AND ended_ms IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM vm WHERE vm.lease_id = lease.lease_id)"
    )
    (count,) = connection.execute(f"SELECT count(*) {forgettable}", (name,)).fetchone()
    if count > LEASES_KEPT:
        connection.execute(
            f"DELETE FROM lease WHERE lease_id IN (SELECT lease_id {forgettable}"  # noqa: S608 our own text
            " ORDER BY issued_ms, rowid LIMIT ?2)",
            (name, min(count - LEASES_KEPT, LEASES_FORGOTTEN_AT_ONCE)),
        )


def policy_changed(name: str, judged_by: tuple[str, int], in_force: tuple[str, int]) -> ConflictError:
    """The conflict of a verdict that another policy gave than the one in force now; both are name and version."""
    detail = f"{name}: judged by {judged_by[0]} version {judged_by[1]}, in force is {in_force[0]} version {in_force[1]}"
    return ConflictError("policy_changed", detail)


def _append(connection: sqlite3.Connection, at_ms: int, kind: str, node: NodeName | None, body: bytes) -> int:
    cursor = connection.execute(
        "INSERT INTO event (at_ms, kind, node, body) VALUES (?, ?, ?, ?)",
        (at_ms, str(kind), None if node is None else node.value, body),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _check_binding(connection: sqlite3.Connection, record: NodeRecord) -> bool:
    """Whether name and EK are bound to each other; a conflict when either is bound elsewhere."""
    bound = connection.execute("SELECT ek_id FROM binding WHERE name = ?", (record.name.value,)).fetchone()
    if bound is not None:
        if bound[0] != record.ek_id:
            raise ConflictError("name_bound", f"{record.name} was enrolled with EK {bound[0].hex()}")
        return True
    owner = connection.execute("SELECT name FROM binding WHERE ek_id = ?", (record.ek_id,)).fetchone()
    if owner is not None:
        raise ConflictError("ek_bound", f"EK {record.ek_id.hex()} was enrolled as {owner[0]}")
    return False


def _revoked(connection: sqlite3.Connection, name: NodeName) -> bool:
    """Whether the node is revoked; a conflict when it is not enrolled."""
    row = connection.execute("SELECT revoked_ms IS NOT NULL FROM node WHERE name = ?", (name.value,)).fetchone()
    if row is None:
        raise ConflictError("node_unknown", name.value)
    return bool(row[0])


def _end_open_lease(connection: sqlite3.Connection, name: NodeName, reason: str, at_ms: int) -> None:
    row = connection.execute("SELECT lease_id FROM open_lease WHERE node = ?", (name.value,)).fetchone()
    if row is not None:
        _end(connection, row[0], name, reason, at_ms)


def _end(connection: sqlite3.Connection, lease_id: bytes, name: NodeName, reason: str, at_ms: int) -> int:
    connection.execute(
        "UPDATE lease SET (policy, policy_version, renewed_ms, expires_ms, reset_count, restart_count, clock) ="
        " (SELECT policy, policy_version, renewed_ms, expires_ms, reset_count, restart_count, clock FROM open_lease"
        " WHERE open_lease.lease_id = lease.lease_id), ended_ms = ?, end_reason = ? WHERE lease_id = ?",
        (at_ms, str(reason), lease_id),
    )
    connection.execute("DELETE FROM open_lease WHERE lease_id = ?", (lease_id,))
    if reason != EndReason.REPLACED:  # else `admit` sees to them
        lose_vms(connection, lease_id, str(reason), at_ms)
    body = msgspec.msgpack.encode({"lease_id": lease_id, "reason": str(reason)})
    return _append(connection, at_ms, EventKind.END, name, body)
