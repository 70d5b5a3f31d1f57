"""From `revoke` until the VMs of a node have stopped: connected, and cut off from everybody.

    pytest bench/bench_revoked_vms.py         ROUNDS=9 for more of them

A VM runs in QEMU on a node; an operator revokes the node, and what is timed ends when QEMU has and its keys are wiped.
A node that is cut off hears nothing: it ends its VMs by itself, before its lease ends.
"""

import os
import statistics
import time

import pytest
import trio

from bench.conftest import Section
from bench.live_vms import Cloud, a_cloud
from tccp.protocol import control as c

ROUNDS = int(os.environ.get("ROUNDS", "5"))
LEASE_S = 6


async def until_stopped(cloud: Cloud, name: str, *, cut: bool) -> float:
    """Seconds for the VM of a node that is told, or that nobody can tell."""
    node, _ = cloud.nodes[name]
    vm_id, _ = await cloud.launch(name)
    if cut:
        cloud.ways[name].is_cut = True
    start = time.perf_counter()
    await cloud.coordinator.ask(c.RevokeNode(name=name, reason="bench"), c.NodeInfo)
    with trio.fail_after(10 * LEASE_S):
        async for info in node.vms.steps(node.vms.get(vm_id)):
            if info.ended_ms:
                break
    return time.perf_counter() - start


@pytest.mark.skipif(os.geteuid() != 0, reason="VMs run as users of their own")
async def test_from_revoke_to_where_nothing_runs() -> None:
    section = Section(
        "From revoke to a VM that has stopped",
        f"{ROUNDS} nodes each, a VM in QEMU on each; leases of {LEASE_S} s. A node that is cut off ends its VMs by its "
        "own clock, before its lease does; when in the life of its lease it was cut off is chance.",
        ["", "median", "longest", "bar"],
    )
    names = {cut: [f"{'cut' if cut else 'told'}{number}" for number in range(ROUNDS)] for cut in (False, True)}
    async with a_cloud(*names[False], *names[True], lease_s=LEASE_S) as cloud:
        for cut, what, bar in ((False, "connected", "2 s"), (True, "cut off", f"the lease, {LEASE_S} s")):
            took = [await until_stopped(cloud, name, cut=cut) for name in names[cut]]
            section.rows.append([what, f"{statistics.median(took):.2f} s", f"{max(took):.2f} s", bar])
    section.save()
    for row in [section.columns, *section.rows]:
        print("  ".join(f"{cell:>28}" for cell in row))
