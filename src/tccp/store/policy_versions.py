"""Versions of policies: in force, or in the shadow of the one in force; and how one becomes the other.

At most one version of a policy is in its shadow. It is newer than the one in force, and judges nobody's lease.
"""

import sqlite3

import msgspec.msgpack

from tccp.store.errors import ConflictError
from tccp.store.records import EventDraft, EventKind, PolicyRecord
from tccp.store.transactions import append_event

# What became of a version in the shadow; ``policy`` says that one is in force.
SET, DROPPED, OVERTAKEN = "set", "dropped", "overtaken"
_SHADOW = "SELECT name, version, body, sha256, added_ms FROM shadow_policy "


def add_policy(connection: sqlite3.Connection, record: PolicyRecord, body: bytes) -> int:
    """Put a version of a policy in force. A version in its shadow that is not newer is there no more."""
    _check_newer(connection, record)
    seq = _put_in_force(connection, record, body)
    before = shadow(connection, record.name)
    if before is not None and before.version <= record.version:
        _end_shadow(connection, before, OVERTAKEN, record.added_ms)
    return seq


def set_shadow(connection: sqlite3.Connection, record: PolicyRecord) -> int:
    """Put a version into the shadow of the one in force, in the place of whatever was there."""
    if _newest_version(connection, record.name) is None:
        raise ConflictError("policy_unknown", record.name)
    _check_newer(connection, record)
    connection.execute(
        "INSERT INTO shadow_policy (name, version, body, sha256, added_ms) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT (name) DO UPDATE SET version = ?2, body = ?3, sha256 = ?4, added_ms = ?5",
        (record.name, record.version, record.body, record.sha256, record.added_ms),
    )
    return _tell(connection, record, SET, record.added_ms)


def promote_shadow(connection: sqlite3.Connection, name: str, sha256: bytes, at_ms: int) -> int:
    """Put the version in the shadow in force, if it is the one that is meant."""
    before = shadow(connection, name)
    if before is None:
        raise _no_shadow(name)
    if before.sha256 != sha256:
        raise ConflictError("shadow_changed", f"{name}: {before.sha256.hex()} is there, {sha256.hex()} was meant")
    record = PolicyRecord(name, before.version, before.body, before.sha256, at_ms)
    _check_newer(connection, record)
    connection.execute("DELETE FROM shadow_policy WHERE name = ?", (name,))
    body = {"policy": name, "version": record.version, "sha256": record.sha256, "shadow_since_ms": before.added_ms}
    return _put_in_force(connection, record, msgspec.msgpack.encode(body))


def drop_shadow(connection: sqlite3.Connection, name: str, at_ms: int) -> int:
    """Forget the version in the shadow."""
    before = shadow(connection, name)
    if before is None:
        raise _no_shadow(name)
    return _end_shadow(connection, before, DROPPED, at_ms)


def shadow(connection: sqlite3.Connection, name: str) -> PolicyRecord | None:
    """The version in the shadow of the policy called *name*."""
    row = connection.execute(_SHADOW + "WHERE name = ?", (name,)).fetchone()
    return None if row is None else PolicyRecord(*row)


def shadows(connection: sqlite3.Connection) -> list[PolicyRecord]:
    """All versions in a shadow, in order of name; ``added_ms`` says since when."""
    return [PolicyRecord(*row) for row in connection.execute(_SHADOW + "ORDER BY name")]


def _no_shadow(name: str) -> ConflictError:
    return ConflictError("no_shadow", f"{name}: no version is in its shadow")


def _put_in_force(connection: sqlite3.Connection, record: PolicyRecord, body: bytes) -> int:
    connection.execute(
        "INSERT INTO policy (name, version, body, sha256, added_ms) VALUES (?, ?, ?, ?, ?)",
        (record.name, record.version, record.body, record.sha256, record.added_ms),
    )
    return append_event(connection, EventDraft(record.added_ms, EventKind.POLICY, None, body))


def _end_shadow(connection: sqlite3.Connection, record: PolicyRecord, what: str, at_ms: int) -> int:
    connection.execute("DELETE FROM shadow_policy WHERE name = ?", (record.name,))
    return _tell(connection, record, what, at_ms)


def _tell(connection: sqlite3.Connection, record: PolicyRecord, what: str, at_ms: int) -> int:
    body = {"policy": record.name, "version": record.version, "sha256": record.sha256, "what": what}
    return append_event(connection, EventDraft(at_ms, EventKind.SHADOW, None, msgspec.msgpack.encode(body)))


def _check_newer(connection: sqlite3.Connection, record: PolicyRecord) -> None:
    newest = _newest_version(connection, record.name)
    if newest is not None and record.version <= newest:
        raise ConflictError("policy_not_newer", f"{record.name}: version {newest} is there, {record.version} was given")


def _newest_version(connection: sqlite3.Connection, policy: str) -> int | None:
    version: int | None = connection.execute("SELECT max(version) FROM policy WHERE name = ?", (policy,)).fetchone()[0]
    return version
