"""What the node that owns a VM says of its end there: it has ended, stands in a file, or is gone for ever.

Each may be said again until it is recorded, and late: a node that lost its lease, and has another for the same boot,
may still say what became of a VM, as long as nobody else has got it.
"""

import sqlite3

import msgspec.msgpack

from tccp.store.errors import ConflictError
from tccp.store.launches import VmDestruction, VmEnd, VmRecord, VmState, VmSuspension
from tccp.store.marking import take_down_disks
from tccp.store.owners import another_node, of_this_boot, of_this_node
from tccp.store.ownership import forget_move
from tccp.store.records import EventDraft, EventKind
from tccp.store.transactions import append_event


def end_vm(connection: sqlite3.Connection, end: VmEnd) -> int:
    """Take down that a VM has ended on its node; 0 when that, or its end otherwise, is known already."""
    record = of_this_boot(connection, end)
    if record.state not in {VmState.RUNNING, VmState.LOST}:
        return 0
    connection.execute(
        "UPDATE vm SET state = 'ended', ended_ms = ?1, end_reason = ?2, free_ms = ?1 WHERE vm_id = ?3",
        (end.at_ms, end.reason, end.vm_id),
    )
    take_down_disks(connection, record, end.disk_root, end.marks)
    forget_move(connection, end.vm_id)
    body = {"vm_id": end.vm_id, "epoch": end.epoch, "reason": end.reason, "disk_root": end.disk_root or b""}
    return append_event(connection, EventDraft(end.at_ms, EventKind.STOP, record.node, msgspec.msgpack.encode(body)))


def suspend_vm(connection: sqlite3.Connection, said: VmSuspension) -> int:
    """Take down that a VM stands in a file; 0 when that is known already."""
    record = of_this_boot(connection, said)
    if record.state == VmState.SUSPENDED and record.state_root == said.state_root:
        return 0
    if record.state not in {VmState.RUNNING, VmState.LOST}:
        raise ConflictError("vm_not_running", f"{said.vm_id.hex()} is {record.state}")
    _check_generation(connection, said, record)
    connection.execute(
        "UPDATE vm SET state = 'suspended', ended_ms = ?1, end_reason = 'suspended', free_ms = ?1,"
        " generation = ?2, state_root = ?3 WHERE vm_id = ?4",
        (said.at_ms, said.generation, said.state_root, said.vm_id),
    )
    take_down_disks(connection, record, said.disk_root, said.marks)
    forget_move(connection, said.vm_id)
    _keep_state(connection, said, record)
    body = {
        "vm_id": said.vm_id,
        "epoch": said.epoch,
        "generation": said.generation,
        "state_root": said.state_root,
        "disk_root": said.disk_root or b"",
    }
    draft = EventDraft(said.at_ms, EventKind.SUSPEND, record.node, msgspec.msgpack.encode(body))
    return append_event(connection, draft)


def _check_generation(connection: sqlite3.Connection, said: VmSuspension, record: VmRecord) -> None:
    """Either made in this epoch; or the one that was to be resumed in this epoch, in which the VM has never run.

    Raises:
        ConflictError: ``state_old``.
    """
    if said.generation != said.epoch and (said.generation, said.state_root) != (record.generation, record.state_root):
        raise ConflictError("state_old", f"generation {said.generation} in epoch {said.epoch}")
    known = connection.execute(
        "SELECT generation FROM vm_state WHERE vm_id = ? AND state_root = ?", (said.vm_id, said.state_root)
    ).fetchone()
    if known is not None and known[0] != said.generation:
        raise ConflictError("state_old", f"{said.state_root.hex()} is that of generation {known[0]}")


def _keep_state(connection: sqlite3.Connection, said: VmSuspension, record: VmRecord) -> None:
    """Keep what belongs to the state, and forget those that nobody goes back to.

    Those are all that are older, once the VM has run by a ticket that does not allow to go back: its node has removed
    their files. A later ticket may allow it from then on.
    """
    connection.execute(
        "INSERT INTO vm_state (vm_id, generation, state_root, disk_root, marks)"
        " SELECT vm_id, generation, state_root, disk_root, marks FROM vm WHERE vm_id = ?"
        " ON CONFLICT (vm_id, generation) DO UPDATE SET disk_root = excluded.disk_root, marks = excluded.marks",
        (said.vm_id,),
    )
    has_run = said.generation == said.epoch
    if has_run and not record.may_roll_back:
        connection.execute("DELETE FROM vm_state WHERE vm_id = ? AND generation < ?", (said.vm_id, said.generation))


def destroy_vm(connection: sqlite3.Connection, said: VmDestruction) -> int:
    """Take down that nothing is left of a VM, for ever; each statement once."""
    record, boot_id = of_this_node(connection, said)
    row = connection.execute("SELECT seq FROM vm_destruction WHERE statement = ?", (said.statement_sha256,)).fetchone()
    if row is not None:
        return int(row[0])
    if record.state == VmState.RUNNING and record.boot_id != boot_id:
        raise another_node(record)
    body = {
        "vm_id": said.vm_id,
        "epoch": said.epoch,
        "tenant_key": record.tenant_key,
        "statement_sha256": said.statement_sha256,
        "identity_sha256": said.identity_sha256,
    }
    draft = EventDraft(said.at_ms, EventKind.DESTROY, record.node, msgspec.msgpack.encode(body))
    seq = append_event(connection, draft)
    if record.destroy_seq is None:
        connection.execute(
            "UPDATE vm SET state = 'destroyed', ended_ms = coalesce(ended_ms, ?1), end_reason = 'destroyed',"
            " destroy_seq = ?2 WHERE vm_id = ?3",
            (said.at_ms, seq, said.vm_id),
        )
    connection.execute("DELETE FROM vm_state WHERE vm_id = ?", (said.vm_id,))
    forget_move(connection, said.vm_id)
    connection.execute(
        "INSERT INTO vm_destruction (statement, vm_id, seq) VALUES (?, ?, ?)", (said.statement_sha256, said.vm_id, seq)
    )
    return seq
