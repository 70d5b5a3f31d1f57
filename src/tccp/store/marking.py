"""What is demanded of a VM's disks at its next start.

    ended in good order                  the root as they were left: exactly so
    else, where marks are registered     the marks: in no state from before them, and in no other history
    else                                 the root of the last good end, if there is one

Only the owner of a VM registers marks, and within an epoch they never go back. They are no events: they come every few
seconds for each VM that writes, and what was demanded stands in the event of the next release.
"""

import sqlite3

from tccp.protocol.marks import go_on
from tccp.store.errors import ConflictError
from tccp.store.launches import VmMarks, VmRecord, VmState
from tccp.store.owners import of_this_boot


def register_marks(connection: sqlite3.Connection, said: VmMarks) -> None:
    """Take down how far the disks of a VM have come that its owner runs."""
    record = of_this_boot(connection, said)
    if record.state not in {VmState.RUNNING, VmState.LOST}:
        raise ConflictError("vm_not_running", f"{said.vm_id.hex()} is {record.state}")
    if _goes_back(record, said.marks):
        raise ConflictError("marks_old", f"{said.vm_id.hex()}: epoch {said.epoch} has later ones")
    if (record.marks, record.disk_root) != (said.marks, None):
        connection.execute(
            "UPDATE vm SET marks = ?, marks_epoch = epoch, disk_root = NULL WHERE vm_id = ?", (said.marks, said.vm_id)
        )


def take_down_disks(
    connection: sqlite3.Connection, record: VmRecord, disk_root: bytes | None, marks: bytes | None
) -> None:
    """How the owner of *record* has left its disks: root and marks, as far as it can say."""
    if marks is None or _goes_back(record, marks):
        marks, epoch = record.marks, record.marks_epoch
    else:
        epoch = record.epoch
    if disk_root is None and marks is None:
        disk_root = record.disk_root
    connection.execute(
        "UPDATE vm SET disk_root = ?, marks = ?, marks_epoch = ? WHERE vm_id = ?",
        (disk_root, marks, epoch, record.vm_id),
    )


def _goes_back(record: VmRecord, marks: bytes) -> bool:
    # An epoch is one opening of the disks. What comes before it is theirs to compare: they were opened at it.
    return record.marks is not None and record.marks_epoch == record.epoch and not go_on(record.marks, marks)
