"""A suspended VM goes on: only from its newest state, only once, and only on a node that its ticket allows."""

import sqlite3

from tccp.store.errors import ConflictError
from tccp.store.launches import KeyClaim, VmRecord, VmState
from tccp.store.launching import asks_again, node_that_may, own, vm
from tccp.store.records import EventKind


def resume(connection: sqlite3.Connection, claim: KeyClaim) -> VmRecord:
    """Make the node that asks the owner of the VM that *claim*'s ticket started, if everything allows it."""
    asker = node_that_may(connection, claim)
    before = vm(connection, claim.vm_id)
    if before is None:
        raise ConflictError("vm_unknown", claim.vm_id.hex())
    if before.ticket != claim.ticket:
        raise ConflictError("another_ticket", f"{claim.vm_id.hex()} was started by {before.ticket.hex()}")
    if before.state_root is not None and before.state_root != claim.state_root:
        raise ConflictError("state_old", f"{claim.state_root.hex()}: the newest is {before.state_root.hex()}")
    if before.state_root is not None and asks_again(claim, asker, before):
        return before
    if before.state != VmState.SUSPENDED:
        raise ConflictError("vm_not_suspended", f"{claim.vm_id.hex()} is {before.state}, on {before.node}")
    return own(connection, EventKind.RESUME, claim, asker, before)
