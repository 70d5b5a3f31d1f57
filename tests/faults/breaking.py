"""The faults: what breaks, for how long, and how it is put right again by what is there without a person.

A daemon that is killed is started again, as systemd does; one that was stopped goes on; a wire is mended. Nothing else
is done: what becomes of the VMs is for the three daemons to find out.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from tests.faults.bench import (
    COORDINATOR,
    DEADLINE_S,
    DESTINATION,
    LEASE_S,
    LOOK_S,
    SOURCE,
    Bench,
    Case,
    processes,
    send,
)
from tests.faults.processes import PARTS
from tests.faults.steps import STEPS, Step, has_copy

NODES = (SOURCE, DESTINATION)
DAEMONS = (*NODES, COORDINATOR)
SHORT_S = 0.5
PEERS = "peers"
OF = "processes of "


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one party.

    Attributes:
        what: ``kill``, ``freeze`` or ``cut``.
        whom: A daemon, the processes of VMs on a node, or a wire.
        is_long: It lasts until the leases that hang on it have lapsed.
    """

    what: str
    whom: str
    is_long: bool = False

    def __str__(self) -> str:
        return f"{self.what} {self.whom}{' past the lease' if self.is_long else ''}"

    @property
    def silenced(self) -> tuple[str, ...]:
        """The nodes whose leases lapse."""
        if not self.is_long:
            return ()
        return NODES if self.whom == COORDINATOR else (self.whom,)

    def strikes(self) -> list[tuple[Step, str]]:
        """At which steps there is something to strike; and which of a VM's processes, where it strikes one of those."""
        if not self.whom.startswith(OF):
            return [(step, "") for step in STEPS]
        return [(step, part) for step in STEPS if has_copy(step, self.whom.removeprefix(OF)) for part in PARTS]


FAULTS = [
    *(Fault("kill", daemon) for daemon in DAEMONS),
    *(Fault("freeze", daemon, is_long) for daemon in DAEMONS for is_long in (False, True)),
    *(Fault("cut", wire, is_long) for wire in NODES for is_long in (False, True)),
    Fault("cut", PEERS),
    *(Fault(what, OF + node) for what in ("kill", "freeze") for node in NODES),
]


async def strike(bench: Bench, fault: Fault, cases: Sequence[Case]) -> None:
    """Have it happen, let go of everybody who is held, and put it right."""
    if fault.what == "cut":
        bench.wires.cut(fault.whom)
        bench.holds.release()
        await _for_a_while(bench, fault, cases)
        bench.wires.mend(fault.whom)
    elif fault.whom in DAEMONS and fault.what == "kill":
        await trio.to_thread.run_sync(bench.daemon(fault.whom).kill)
        bench.holds.release()
        bench.daemon(fault.whom).start(wait=False)
    elif fault.whom in DAEMONS:
        bench.daemon(fault.whom).signal(signal.SIGSTOP)
        bench.holds.release()
        await _for_a_while(bench, fault, cases)
        bench.daemon(fault.whom).signal(signal.SIGCONT)
    else:
        pids = await _processes_of(fault.whom.removeprefix(OF), cases)
        send(pids, signal.SIGKILL if fault.what == "kill" else signal.SIGSTOP)
        bench.holds.release()
        if fault.what == "freeze":
            await trio.sleep(SHORT_S)
            send(pids, signal.SIGCONT)


async def _processes_of(node: str, cases: Sequence[Case]) -> list[int]:
    """One of each VM, once all are there: a node may be held at a step to which the other is still coming."""
    case_of = {(case.part, case.vm_id): case for case in cases}
    struck: dict[tuple[str, bytes], int] = {}
    with trio.move_on_after(DEADLINE_S):
        while len(struck) < len(cases):
            await trio.sleep(LOOK_S)
            found = [(part, *process) for part in PARTS for process in processes(part)]
            struck = {
                (part, vm_id): pid for part, pid, vm_id, where in found if where == node and (part, vm_id) in case_of
            }
    missing = [str(case) for which, case in case_of.items() if which not in struck]
    assert not missing, f"there is no such process at {missing}"
    return list(struck.values())


async def _for_a_while(bench: Bench, fault: Fault, cases: Sequence[Case]) -> None:
    """Until it is to be put right; leases that are given then hold long again."""
    ours = {case.vm_id for case in cases}
    if not fault.is_long:
        await trio.sleep(SHORT_S)
        return
    with trio.fail_after(DEADLINE_S):
        if fault.whom == COORDINATOR:
            while any(vm_id in ours for _, vm_id, _ in processes()):  # noqa: ASYNC110 - until the nodes have ended them
                await trio.sleep(LOOK_S)
        else:
            await bench.until_lapsed(fault.whom)
    bench.perimeter.reload_lease(LEASE_S)
