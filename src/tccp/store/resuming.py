"""A suspended VM goes on: only once from each state, only from its newest, and only on a node that its ticket allows.

Where its tenant allows it in the ticket by which the VM was started last, from an older state as well, as often as
somebody wants, with the disks as they were then; never while it runs.
"""

import sqlite3
from dataclasses import replace

from tccp.store.errors import ConflictError
from tccp.store.launches import KeyClaim, VmRecord, VmState
from tccp.store.launching import check_free, given_before, node_that_may, own, vm
from tccp.store.records import EventKind


def resume(connection: sqlite3.Connection, claim: KeyClaim) -> VmRecord:
    """Make the node that asks the owner of the VM that *claim*'s ticket started, if everything allows it."""
    if (given := given_before(connection, claim)) is not None:
        return given
    asker = node_that_may(connection, claim)
    before = vm(connection, claim.vm_id)
    if before is None:
        raise ConflictError("vm_unknown", claim.vm_id.hex())
    if before.ticket != claim.ticket:
        raise ConflictError("another_ticket", f"{claim.vm_id.hex()} was started by {before.ticket.hex()}")
    if before.state != VmState.SUSPENDED or before.state_root != claim.state_root:
        before = _as_it_was(connection, claim, before)
    return own(connection, EventKind.RESUME, claim, asker, before)


def _as_it_was(connection: sqlite3.Connection, claim: KeyClaim, record: VmRecord) -> VmRecord:
    """The VM as *claim*'s state has it, which is not where it stands."""
    if not claim.may_roll_back:
        if record.state_root is not None and record.state_root != claim.state_root:
            raise ConflictError("state_old", f"{claim.state_root.hex()}: the newest is {record.state_root.hex()}")
        raise ConflictError("vm_not_suspended", f"{claim.vm_id.hex()} is {record.state}, on {record.node}")
    check_free(record, replace(claim, gives_up_state=True))
    row = connection.execute(
        "SELECT generation, disk_root, marks FROM vm_state WHERE vm_id = ? AND state_root = ?",
        (claim.vm_id, claim.state_root),
    ).fetchone()
    if row is None:
        raise ConflictError("state_unknown", f"{claim.vm_id.hex()} never stood in {claim.state_root.hex()}")
    generation, disk_root, marks = row
    # Its disks are to be as they were then, whatever was registered of them since.
    connection.execute(
        "UPDATE vm SET disk_root = ?, marks = ?, marks_epoch = 0 WHERE vm_id = ?", (disk_root, marks, claim.vm_id)
    )
    disks = {"disk_root": disk_root, "marks": marks, "marks_epoch": 0}
    return replace(record, generation=generation, state_root=claim.state_root, **disks)
