"""A VM moves while it runs: the transactions, named as in `formal/Ownership.tla`.

    prepare    the destination may have it, on fresh evidence; the owner stays the owner
    arrive     all of it is there, and how far its disks have come
    commit     the source has wiped its copy: the destination is the owner, in the next epoch
    abort      only the source gives a move up, and wipes nothing afterwards

Until the commit the source may go on alone without asking anybody; afterwards it never may.
"""

import hashlib
import sqlite3

import msgspec.msgpack

from tccp.model import NodeName
from tccp.store.errors import ConflictError
from tccp.store.launches import KeyClaim, MoveArrival, MoveRecord, MoveWord, VmRecord, VmState
from tccp.store.launching import attribute_fields, node_that_may, vm
from tccp.store.owners import of_this_boot
from tccp.store.ownership import forget_move
from tccp.store.records import EventDraft, EventKind
from tccp.store.transactions import append_event

DESTINATION_LOST = "destination_lost"  # why a VM ended that its source has wiped for a destination that is out
_MOVE = """SELECT vm_move.vm_id, vm_move.epoch, move_id, vm_move.node, vm_move.boot_id, address, vm_move.seq,
    vm_move.marks FROM vm_move
    JOIN vm ON vm.vm_id = vm_move.vm_id AND vm.epoch = vm_move.epoch
        AND (vm.state = 'running' OR (vm.state = 'lost' AND vm.free_ms > ?1)) """


def move(connection: sqlite3.Connection, vm_id: bytes, at_ms: int) -> MoveRecord | None:
    """The move of a VM that is under way. A source that was lost may still say something as long as it has the VM."""
    row = connection.execute(_MOVE + "WHERE vm_move.vm_id = ?2", (at_ms, vm_id)).fetchone()
    return None if row is None else MoveRecord(row[0], row[1], row[2], NodeName(row[3]), *row[4:])


def moves_from(connection: sqlite3.Connection, node: NodeName, at_ms: int) -> list[MoveRecord]:
    """Those under way of VMs that *node* owns."""
    rows = connection.execute(_MOVE + "WHERE vm.node = ?2", (at_ms, node.value))
    return [MoveRecord(row[0], row[1], row[2], NodeName(row[3]), *row[4:]) for row in rows]


def prepare_move(connection: sqlite3.Connection, claim: KeyClaim, address: str) -> MoveRecord:
    """Let the node that asks be the destination, if everything allows it."""
    asker = node_that_may(connection, claim)
    owned = vm(connection, claim.vm_id)
    if owned is None:
        raise ConflictError("vm_unknown", claim.vm_id.hex())
    if owned.ticket != claim.ticket:
        raise ConflictError("another_ticket", f"{claim.vm_id.hex()} was started by {owned.ticket.hex()}")
    if owned.state != VmState.RUNNING:
        raise ConflictError("vm_not_running", f"{claim.vm_id.hex()} is {owned.state}")
    if owned.node == asker.node:
        raise ConflictError("vm_running", f"{claim.vm_id.hex()} runs on {owned.node}, which asks for it")
    if not _lease_of(connection, owned.node, owned.boot_id, claim.at_ms):
        raise ConflictError("source_silent", f"{owned.node} holds no lease")
    under_way = move(connection, claim.vm_id, claim.at_ms)
    if under_way is not None:
        if (under_way.move_id, under_way.node, under_way.boot_id) == (claim.nonce, asker.node, asker.boot_id):
            return under_way
        raise ConflictError("vm_moving", f"{claim.vm_id.hex()} is on its way to {under_way.node}")
    body = {
        "vm_id": claim.vm_id,
        "epoch": owned.epoch,
        "tenant_key": owned.tenant_key,
        "source": owned.node.value,
        "identity_sha256": hashlib.sha256(asker.identity).digest(),
        "evidence_ms": asker.renewed_ms,
        **attribute_fields(asker.attributes),
    }
    seq = append_event(connection, EventDraft(claim.at_ms, EventKind.MOVE, asker.node, msgspec.msgpack.encode(body)))
    connection.execute(
        "INSERT INTO vm_move (vm_id, epoch, move_id, node, boot_id, address, seq, attributes)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        " ON CONFLICT (vm_id) DO UPDATE SET epoch = ?2, move_id = ?3, node = ?4, boot_id = ?5, address = ?6, seq = ?7,"
        " marks = NULL, attributes = ?8",
        (
            claim.vm_id,
            owned.epoch,
            claim.nonce,
            asker.node.value,
            asker.boot_id,
            address,
            seq,
            msgspec.msgpack.encode(attribute_fields(asker.attributes)),
        ),
    )
    return MoveRecord(claim.vm_id, owned.epoch, claim.nonce, asker.node, asker.boot_id, address, seq)


def arrive(connection: sqlite3.Connection, said: MoveArrival) -> None:
    """Take down that all of a VM is at its destination, which will be demanded of its disks from the commit on."""
    under_way = move(connection, said.vm_id, 0)  # at whatever time
    row = connection.execute("SELECT node, boot_id FROM lease WHERE lease_id = ?", (said.lease_id,)).fetchone()
    if under_way is None or row is None:
        raise ConflictError("move_over", f"{said.vm_id.hex()}: {said.move_id.hex()}")
    destination = (under_way.node.value, under_way.boot_id, under_way.epoch + 1, under_way.move_id)
    if (*row, said.epoch, said.move_id) != destination:
        raise ConflictError("move_over", f"{said.vm_id.hex()}: {said.move_id.hex()}")
    connection.execute("UPDATE vm_move SET marks = ? WHERE vm_id = ?", (said.marks, said.vm_id))


def commit_move(connection: sqlite3.Connection, word: MoveWord) -> VmRecord:
    """The source has wiped its copy: make the destination the owner; or nobody, when it is out or has not arrived."""
    if (moved := _moved_by(connection, word)) is not None:
        return moved
    record, under_way = _of_this_move(connection, word)
    lease = _lease_of(connection, under_way.node, under_way.boot_id, word.at_ms)
    if lease is None or under_way.marks is None:
        connection.execute(
            "UPDATE vm SET state = 'ended', ended_ms = ?1, end_reason = ?2, free_ms = ?1,"
            " disk_root = CASE WHEN marks IS NULL THEN disk_root END WHERE vm_id = ?3",
            (word.at_ms, DESTINATION_LOST, word.vm_id),
        )
        ended = {"vm_id": word.vm_id, "epoch": word.epoch, "reason": DESTINATION_LOST, "disk_root": b""}
        append_event(connection, EventDraft(word.at_ms, EventKind.STOP, record.node, msgspec.msgpack.encode(ended)))
    else:
        lease_id, identity, policy, policy_version, renewed_ms = lease
        body = {
            "vm_id": word.vm_id,
            "epoch": word.epoch + 1,
            "tenant_key": record.tenant_key,
            "ticket": record.ticket,
            "images": record.images,
            "lease_id": lease_id,
            "identity_sha256": hashlib.sha256(identity).digest(),
            "policy": policy,
            "policy_version": policy_version,
            "evidence_ms": renewed_ms,
            "source": record.node.value,
            "wiped_sha256": word.statement_sha256,
            **_attributes_at_prepare(connection, word.vm_id),
        }
        draft = EventDraft(word.at_ms, EventKind.MOVED, under_way.node, msgspec.msgpack.encode(body))
        seq = append_event(connection, draft)
        connection.execute(
            "UPDATE vm SET state = 'running', epoch = ?1, node = ?2, boot_id = ?3, lease_id = ?4, nonce = ?5, seq = ?6,"
            " released_ms = ?7, ended_ms = NULL, end_reason = NULL, free_ms = 0,"
            " disk_root = NULL, marks = nullif(?9, x''), marks_epoch = CASE WHEN ?9 = x'' THEN 0 ELSE ?1 END"
            " WHERE vm_id = ?8",
            (
                word.epoch + 1,
                under_way.node.value,
                under_way.boot_id,
                lease_id,
                under_way.move_id,
                seq,
                word.at_ms,
                word.vm_id,
                under_way.marks,
            ),
        )
    forget_move(connection, word.vm_id)
    after = vm(connection, word.vm_id)
    assert after is not None
    return after


def abort_move(connection: sqlite3.Connection, word: MoveWord) -> int:
    """The source goes on alone."""
    record, under_way = _of_this_move(connection, word)
    forget_move(connection, word.vm_id)
    body = {"vm_id": word.vm_id, "epoch": word.epoch, "destination": under_way.node.value}
    draft = EventDraft(word.at_ms, EventKind.STAYED, record.node, msgspec.msgpack.encode(body))
    return append_event(connection, draft)


def _moved_by(connection: sqlite3.Connection, word: MoveWord) -> VmRecord | None:
    """The VM as this very word has moved it before: the answer was lost, or somebody else has waited for it."""
    record = vm(connection, word.vm_id)
    if record is None or (record.epoch, record.nonce) != (word.epoch + 1, word.move_id):
        return None
    (body,) = connection.execute("SELECT body FROM event WHERE seq = ?", (record.seq,)).fetchone()
    return record if msgspec.msgpack.decode(body).get("wiped_sha256") == word.statement_sha256 else None


def _of_this_move(connection: sqlite3.Connection, word: MoveWord) -> tuple[VmRecord, MoveRecord]:
    record = of_this_boot(connection, word)
    under_way = move(connection, word.vm_id, word.at_ms)
    if under_way is None or under_way.move_id != word.move_id:
        raise ConflictError("move_unknown", f"{word.vm_id.hex()}: {word.move_id.hex()}")
    return record, under_way


def _attributes_at_prepare(connection: sqlite3.Connection, vm_id: bytes) -> dict[str, str]:
    (content,) = connection.execute("SELECT attributes FROM vm_move WHERE vm_id = ?", (vm_id,)).fetchone()
    return msgspec.msgpack.decode(content, type=dict[str, str])


def _lease_of(
    connection: sqlite3.Connection, node: NodeName, boot_id: bytes, at_ms: int
) -> tuple[bytes, bytes, str, int, int] | None:
    """The lease that this boot of *node* holds, if it is in the perimeter now: id, identity, policy, evidence time."""
    row: tuple[bytes, bytes, str, int, int] | None = connection.execute(
        "SELECT lease.lease_id, lease.identity, open_lease.policy, open_lease.policy_version, open_lease.renewed_ms"
        " FROM open_lease JOIN lease ON lease.lease_id = open_lease.lease_id"
        " JOIN node ON node.name = open_lease.node"
        " WHERE open_lease.node = ? AND lease.boot_id = ? AND open_lease.expires_ms > ? AND node.revoked_ms IS NULL",
        (node.value, boot_id, at_ms),
    ).fetchone()
    return row
