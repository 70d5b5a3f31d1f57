"""What happens to the VMs of a node when its lease ends: in the very transaction that ends it.

A node stops its VMs by itself when its lease is over. Until then nobody else may get their keys, even if the node was
revoked and told so: it may not have heard it. The disks of a VM that is lost are not as their root says, but beyond
their marks (`tccp.store.marking`).
"""

import sqlite3

from tccp.model import NodeName

# A node counts its lease from when a renewal's challenge has reached it, and that may be as late as the challenge can
# be answered (30 s); and ending a VM takes a moment.
STOP_GRACE_MS = 35_000


def lose_vms(connection: sqlite3.Connection, lease_id: bytes, reason: str, at_ms: int) -> None:
    """The lease has ended for good, and its row says until when it was granted: its VMs are lost."""
    connection.execute(
        "UPDATE vm SET state = 'lost', ended_ms = ?1, end_reason = ?2,"
        " free_ms = max(?1, (SELECT expires_ms FROM lease WHERE lease.lease_id = vm.lease_id) + ?4, free_ms),"
        " disk_root = CASE WHEN marks IS NULL THEN disk_root END"
        " WHERE lease_id = ?3 AND state = 'running'",
        (at_ms, reason, lease_id, STOP_GRACE_MS),
    )


def follow_lease(connection: sqlite3.Connection, node: NodeName, boot_id: bytes, lease_id: bytes, at_ms: int) -> None:
    """The node has a new lease: the VMs of the same boot run on under it, those of an earlier boot are lost."""
    connection.execute(
        "UPDATE vm SET lease_id = ? WHERE node = ? AND boot_id = ? AND state = 'running'",
        (lease_id, node.value, boot_id),
    )
    connection.execute(
        "UPDATE vm SET state = 'lost', ended_ms = ?1, end_reason = 'rebooted',"
        " free_ms = max(?1, (SELECT expires_ms FROM lease WHERE lease.lease_id = vm.lease_id) + ?4, free_ms),"
        " disk_root = CASE WHEN marks IS NULL THEN disk_root END"
        " WHERE node = ?2 AND state = 'running' AND lease_id <> ?3",
        (at_ms, node.value, lease_id, STOP_GRACE_MS),
    )
    forget_moves(connection, node, but_of=boot_id)


def forget_moves(connection: sqlite3.Connection, node: NodeName, *, but_of: bytes = b"") -> None:
    """No boot of *node*, but that one, will ever say what became of a VM that it was sending: it comes no more."""
    connection.execute(
        "DELETE FROM vm_move WHERE EXISTS"
        " (SELECT 1 FROM vm WHERE vm.vm_id = vm_move.vm_id AND vm.node = ? AND vm.boot_id <> ?)",
        (node.value, but_of),
    )


def forget_move(connection: sqlite3.Connection, vm_id: bytes) -> None:
    """The VM is not on its way any more."""
    connection.execute("DELETE FROM vm_move WHERE vm_id = ?", (vm_id,))
