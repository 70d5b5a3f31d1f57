"""Whether the node that speaks of a VM is the one that had it last: looked at inside each transaction."""

import sqlite3

from tccp.model import NodeName
from tccp.store.errors import ConflictError
from tccp.store.launches import MoveWord, VmDestruction, VmEnd, VmMarks, VmRecord, VmSuspension
from tccp.store.launching import vm

Said = VmEnd | VmMarks | VmSuspension | VmDestruction | MoveWord


def of_this_boot(connection: sqlite3.Connection, said: Said) -> VmRecord:
    """The VM, owned last by the very boot that speaks, in the epoch that it speaks of."""
    record, boot_id = of_this_node(connection, said)
    if record.boot_id != boot_id:
        raise another_node(record)
    return record


def of_this_node(connection: sqlite3.Connection, said: Said) -> tuple[VmRecord, bytes]:
    """The VM, owned last by the node that speaks, in the epoch that it speaks of; and the boot of the node."""
    record = vm(connection, said.vm_id)
    if record is None:
        raise ConflictError("vm_unknown", said.vm_id.hex())
    row = connection.execute("SELECT node, boot_id FROM lease WHERE lease_id = ?", (said.lease_id,)).fetchone()
    if row is None or record.node != NodeName(row[0]):
        raise another_node(record)
    if record.epoch != said.epoch:
        raise ConflictError("vm_epoch_over", f"{said.vm_id.hex()}: epoch {said.epoch}, now it is {record.epoch}")
    return record, row[1]


def another_node(record: VmRecord) -> ConflictError:
    """It is not."""
    return ConflictError("vm_of_another_node", f"{record.vm_id.hex()} is of {record.node}, or of another boot")
