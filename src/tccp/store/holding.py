"""A coordinator starts, and its host's clock may have been set forward since it was last there.

A lease that is over by that clock may hold on, and its node run what it may run. So for VMs no time has passed since
the last that the record knows: a node has all that was left of its lease then, and nobody else gets its VMs before.
"""

import sqlite3

from tccp.store.ownership import STOP_GRACE_MS
from tccp.store.queries import meta
from tccp.store.transactions import set_meta

HELD = "vms_held_ms"  # under which the last start is remembered: one that comes to nothing must not count twice


def hold_vms(connection: sqlite3.Connection, known_ms: int, at_ms: int) -> None:
    """Move the time from which a VM is free, from *known_ms* on, behind *at_ms*.

    `free_ms` of a VM that runs says before when it is not free, however its lease ends.
    """
    held_ms = max(known_ms, int.from_bytes(meta(connection, HELD) or b"", "big"))
    connection.execute(
        "UPDATE vm SET free_ms = free_ms - ?1 + ?2 WHERE state IN ('running', 'lost') AND free_ms > ?1",
        (held_ms, at_ms),
    )
    connection.execute(
        "UPDATE vm SET free_ms = max(free_ms, ?2 + ?3 + max(0, coalesce((SELECT expires_ms FROM open_lease"
        " WHERE open_lease.lease_id = vm.lease_id), 0) - ?1)) WHERE state = 'running'",
        (known_ms, at_ms, STOP_GRACE_MS),
    )
    set_meta(connection, HELD, at_ms.to_bytes(8, "big"))
