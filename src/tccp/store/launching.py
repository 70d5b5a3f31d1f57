"""Tenants, and who owns which VM: the transactions, as `tccp.store.transactions` has those of nodes.

`own` is the one place where a VM gets an owner, for `release` here and for `tccp.store.resuming`. These read everything
that the decision depends on under the write lock, so that two nodes with one ticket, a revocation, or a policy that
changes cannot come in between.
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec.msgpack

from tccp.attestation.attributes import NodeAttributes, attributes_text
from tccp.model import NodeName
from tccp.store.errors import ConflictError
from tccp.store.launches import KeyClaim, TenantRecord, VmRecord, VmState
from tccp.store.ownership import forget_move
from tccp.store.records import EventDraft, EventKind
from tccp.store.transactions import append_event, no_open_lease, policy_changed


@dataclass(frozen=True, slots=True)
class Asker:
    """A node that may have keys now, and what admitted it."""

    node: NodeName
    boot_id: bytes
    identity: bytes
    renewed_ms: int
    policy: str
    policy_version: int
    attributes: NodeAttributes


_VM = """SELECT vm_id, tenant_key, state, epoch, node, boot_id, lease_id, ticket, nonce, images, seq, released_ms,
    ended_ms, end_reason, free_ms, disk_root, generation, state_root, destroy_seq, marks, marks_epoch, may_roll_back
    FROM vm """


def add_tenant(connection: sqlite3.Connection, record: TenantRecord) -> int:
    """Let a tenant's tickets count."""
    for column, value in (("name", record.name), ("key", record.key)):
        row = connection.execute(f"SELECT name FROM tenant WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        if row is not None:
            raise ConflictError("tenant_exists", f"{row[0]} has this {column}")
    values = (record.name, record.key, record.added_ms)
    connection.execute("INSERT INTO tenant (name, key, added_ms) VALUES (?, ?, ?)", values)
    body = msgspec.msgpack.encode({"tenant": record.name, "key": record.key, "enrolled": "yes"})
    return append_event(connection, EventDraft(record.added_ms, EventKind.TENANT, None, body))


def remove_tenant(connection: sqlite3.Connection, name: str, at_ms: int) -> int:
    """Let a tenant's tickets count no more. What runs goes on."""
    row = connection.execute("SELECT key FROM tenant WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise ConflictError("tenant_unknown", name)
    connection.execute("DELETE FROM tenant WHERE name = ?", (name,))
    body = msgspec.msgpack.encode({"tenant": name, "key": row[0], "enrolled": "no"})
    return append_event(connection, EventDraft(at_ms, EventKind.TENANT, None, body))


def tenants(connection: sqlite3.Connection) -> list[TenantRecord]:
    """All tenants, in order of name."""
    return [TenantRecord(*row) for row in connection.execute("SELECT name, key, added_ms FROM tenant ORDER BY name")]


def vm(connection: sqlite3.Connection, vm_id: bytes) -> VmRecord | None:
    """One VM."""
    row = connection.execute(_VM + "WHERE vm_id = ?", (vm_id,)).fetchone()
    return None if row is None else _record(row)


def vms(connection: sqlite3.Connection, after: bytes, limit: int) -> list[VmRecord]:
    """At most *limit* VMs in order of id, from the one after *after* on."""
    rows = connection.execute(_VM + "WHERE vm_id > ? ORDER BY vm_id LIMIT ?", (after, limit))
    return [_record(row) for row in rows]


def release(connection: sqlite3.Connection, claim: KeyClaim) -> VmRecord:
    """Make the node that asks the VM's owner, if everything allows it."""
    if (given := given_before(connection, claim)) is not None:
        return given
    asker = node_that_may(connection, claim)
    before = vm(connection, claim.vm_id)
    if before is not None and before.tenant_key != claim.tenant_key:
        raise ConflictError("vm_of_another_tenant", claim.vm_id.hex())
    if connection.execute("SELECT 1 FROM used_ticket WHERE ticket = ?", (claim.ticket,)).fetchone() is not None:
        raise ConflictError("ticket_used", claim.ticket.hex())
    if before is not None:
        check_free(before, claim)
    record = own(connection, EventKind.RELEASE, claim, asker, before)
    connection.execute(
        "INSERT INTO used_ticket (ticket, vm_id, used_ms) VALUES (?, ?, ?)", (claim.ticket, claim.vm_id, claim.at_ms)
    )
    return record


def own(
    connection: sqlite3.Connection, kind: EventKind, claim: KeyClaim, asker: Asker, before: VmRecord | None
) -> VmRecord:
    """Make *asker* the owner in the next epoch, and enter that in the log."""
    epoch = 1 if before is None else before.epoch + 1
    body: dict[str, str | int | bytes] = {
        "vm_id": claim.vm_id,
        "epoch": epoch,
        "tenant_key": claim.tenant_key,
        "ticket": claim.ticket,
        "images": claim.images,
        "lease_id": claim.lease_id,
        "identity_sha256": hashlib.sha256(asker.identity).digest(),
        "policy": asker.policy,
        "policy_version": asker.policy_version,
        "evidence_ms": asker.renewed_ms,
        **attribute_fields(asker.attributes),
    }
    if kind == EventKind.RESUME:
        assert before is not None
        body |= {"generation": before.generation, "state_root": claim.state_root}
    demanded_root, demanded_marks = demanded(before, claim)
    body |= {"disk_root": demanded_root or b"", "marks": demanded_marks or b""}
    seq = append_event(connection, EventDraft(claim.at_ms, kind, asker.node, msgspec.msgpack.encode(body)))
    record = VmRecord(
        vm_id=claim.vm_id,
        tenant_key=claim.tenant_key,
        state=VmState.RUNNING,
        epoch=epoch,
        node=asker.node,
        boot_id=asker.boot_id,
        lease_id=claim.lease_id,
        ticket=claim.ticket,
        nonce=claim.nonce,
        images=claim.images,
        seq=seq,
        released_ms=claim.at_ms,
        ended_ms=None,
        end_reason=None,
        free_ms=0,
        disk_root=None if before is None else before.disk_root,
        # A start anew gives up what was suspended.
        generation=before.generation if before is not None and kind == EventKind.RESUME else 0,
        state_root=before.state_root if before is not None and kind == EventKind.RESUME else None,
        marks=None if before is None else before.marks,
        marks_epoch=0 if before is None else before.marks_epoch,
        may_roll_back=claim.may_roll_back,
    )
    _write(connection, record)
    forget_move(connection, claim.vm_id)
    return record


def demanded(record: VmRecord | None, claim: KeyClaim) -> tuple[bytes | None, bytes | None]:
    """Root and marks that the disks must have for *claim*: none where the tenant takes them as they are found."""
    if record is None or (claim.gives_up_state and not claim.state_root):
        return None, None
    return record.disk_root, record.marks


def attribute_fields(attributes: NodeAttributes) -> dict[str, str]:
    """What an event says of the attributes of its node; nothing where there are none."""
    said = {"attested": attributes.attested, "asserted": attributes.asserted}
    return {name: attributes_text(each) for name, each in said.items() if each}


def node_that_may(connection: sqlite3.Connection, claim: KeyClaim) -> Asker:
    """The node with the lease of *claim*, if it may have keys of this tenant now."""
    if connection.execute("SELECT 1 FROM tenant WHERE key = ?", (claim.tenant_key,)).fetchone() is None:
        raise ConflictError("tenant_unknown", claim.tenant_key.hex())
    row = connection.execute(
        "SELECT node.name, lease.boot_id, lease.identity, open_lease.renewed_ms, open_lease.expires_ms,"
        " open_lease.policy, open_lease.policy_version, node.policy,"
        " (SELECT max(version) FROM policy WHERE policy.name = node.policy), node.revoked_ms, node.attributes"
        " FROM open_lease JOIN lease ON lease.lease_id = open_lease.lease_id JOIN node ON node.name = open_lease.node"
        " WHERE open_lease.lease_id = ?",
        (claim.lease_id,),
    ).fetchone()
    if row is None:
        raise no_open_lease(connection, claim.lease_id)
    name, boot_id, identity, renewed_ms, expires_ms, policy, version, own_policy, in_force, revoked_ms, attributes = row
    if revoked_ms is not None:
        raise ConflictError("node_revoked", name)
    if expires_ms <= claim.at_ms:
        raise ConflictError("lease_expired", f"{name}: at {expires_ms}, it is {claim.at_ms}")
    if (policy, version) != (own_policy, in_force):
        raise policy_changed(name, (policy, version), (own_policy, in_force))
    if renewed_ms < claim.evidence_since_ms:
        raise ConflictError("evidence_old", f"{name}: judged at {renewed_ms}, wanted since {claim.evidence_since_ms}")
    if policy != claim.policy or version < claim.version_min:
        wanted = f"{claim.policy} version {claim.version_min}"
        raise ConflictError("policy_not_demanded", f"{name}: {policy} version {version}, the ticket demands {wanted}")
    if claim.attested_by is not None and claim.attested_by != (policy, version):
        raise policy_changed(name, claim.attested_by, (policy, version))
    found = NodeAttributes(claim.attested, json.loads(attributes))
    if lacking := found.lacking_evidence(claim.attested_demands):
        raise ConflictError("attribute_not_attested", f"{name}: {lacking}")
    if lacking := found.lacking(claim.attributes):
        raise ConflictError("attribute_not_demanded", f"{name}: {lacking}")
    return Asker(NodeName(name), boot_id, identity, renewed_ms, policy, version, found)


def given_before(connection: sqlite3.Connection, claim: KeyClaim) -> VmRecord | None:
    """The VM, if the answer was lost on the way, and the same boot of the same node asks the same again.

    It owns the VM already, whatever was said of tenant, policy and attributes since: told no, it would forget it, and
    nobody else could have it as long as it has a lease.
    """
    record = vm(connection, claim.vm_id)
    asked = (claim.ticket, claim.nonce, claim.state_root, VmState.RUNNING)
    if record is None or (record.ticket, record.nonce, record.state_root or b"", record.state) != asked:
        return None
    asker = connection.execute(
        "SELECT open_lease.node, lease.boot_id FROM open_lease JOIN lease ON lease.lease_id = open_lease.lease_id"
        " WHERE open_lease.lease_id = ? AND open_lease.expires_ms > ? AND open_lease.renewed_ms >= ?",
        (claim.lease_id, claim.at_ms, claim.evidence_since_ms),
    ).fetchone()
    return record if asker == (record.node.value, record.boot_id) else None


def check_free(record: VmRecord, claim: KeyClaim) -> None:
    """Whether nobody runs it, or may.

    Raises:
        ConflictError: ``vm_running``, ``vm_destroyed``, ``vm_suspended``, ``vm_not_free``.
    """
    if record.state == VmState.RUNNING:
        raise ConflictError("vm_running", f"{record.vm_id.hex()} runs on {record.node}")
    if record.state == VmState.DESTROYED:
        raise ConflictError("vm_destroyed", record.vm_id.hex())
    if record.state == VmState.SUSPENDED and not claim.gives_up_state:
        raise ConflictError("vm_suspended", f"{record.vm_id.hex()} stands in generation {record.generation}")
    if claim.at_ms < record.free_ms:
        detail = f"{record.vm_id.hex()}: {record.node} may run it until {record.free_ms}, it is {claim.at_ms}"
        raise ConflictError("vm_not_free", detail)


def _write(connection: sqlite3.Connection, record: VmRecord) -> None:
    connection.execute(
        "INSERT INTO vm (vm_id, tenant_key, state, epoch, node, boot_id, lease_id, ticket, nonce, images, seq,"
        " released_ms, ended_ms, end_reason, free_ms, disk_root, generation, state_root, may_roll_back)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?, ?, ?, ?)"
        " ON CONFLICT (vm_id) DO UPDATE SET state = excluded.state, epoch = excluded.epoch, node = excluded.node,"
        " boot_id = excluded.boot_id, lease_id = excluded.lease_id, ticket = excluded.ticket, nonce = excluded.nonce,"
        " images = excluded.images, seq = excluded.seq, released_ms = excluded.released_ms, ended_ms = NULL,"
        " end_reason = NULL, free_ms = excluded.free_ms, generation = excluded.generation,"
        " state_root = excluded.state_root, may_roll_back = excluded.may_roll_back",
        (
            record.vm_id,
            record.tenant_key,
            str(record.state),
            record.epoch,
            record.node.value,
            record.boot_id,
            record.lease_id,
            record.ticket,
            record.nonce,
            record.images,
            record.seq,
            record.released_ms,
            record.free_ms,
            record.disk_root,
            record.generation,
            record.state_root,
            record.may_roll_back,
        ),
    )


def _record(row: tuple[Any, ...]) -> VmRecord:
    vm_id, tenant_key, state, epoch, node, *rest = row
    rest[-1] = bool(rest[-1])  # may_roll_back
    return VmRecord(vm_id, tenant_key, state, epoch, NodeName(node), *rest)
