"""One fault that strikes VMs at all steps at the same time, and what must hold when everything has come to rest."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from tccp.errors import TccpError
from tests.faults.bench import COORDINATOR, DESTINATION, LOOK_S, SOURCE, Bench, Case, Seen
from tests.faults.breaking import Fault, strike
from tests.faults.exchanges import begin
from tests.faults.steps import Step
from tests.image.images import open_bytes
from tests.support.live_node import PAPER

AT_ONCE = 8
SETTLE_S = 180.0  # who got no answer asks again after a minute, and who is not let in comes again after one
# A node shows these when nothing more happens there by itself.
AT_REST = frozenset({"running", "ended", "failed", "suspended", "moved", "destroyed"})
# At these a peer waits with little patience, so they are come to last.
IMPATIENT = re.compile(r"move: (sending|move_(order|prepared|arrived) .*)")


@dataclass(slots=True)
class Scene:
    """VMs at their steps, and what has become of them."""

    bench: Bench
    cases: list[Case]
    seen: dict[bytes, Seen]

    def what_is_wrong(self) -> dict[str, str]:
        """What is not at rest, or not as the record says, by step."""
        moving = self.bench.moves()
        wrong = {str(case): _what_is_wrong(self.seen[case.vm_id]) for case in self.cases}
        wrong |= {str(case): "it moves" for case in self.cases if case.vm_id in moving}
        return {step: what for step, what in wrong.items() if what}

    def what_is_lost(self) -> dict[str, str]:
        """What is not there any more although somebody was told that it is, by step."""
        lost = {str(case): _what_is_lost(self.bench, case, self.seen[case.vm_id]) for case in self.cases}
        return {step: what for step, what in lost.items() if what}

    def logged(self, steps: Iterable[str]) -> str:
        """What the daemons have logged of the VMs of these steps, for whoever has to find out what has happened."""
        found = {case.vm_id.hex() for case in self.cases if {str(case), str(case.step)} & {*steps}}
        return "\n".join(
            f"{party}: {line}"
            for party in (SOURCE, DESTINATION, COORDINATOR)
            for line in self.bench.daemon(party).log_path.read_text(errors="replace").splitlines()
            if any(vm_id in line for vm_id in found)
        )

    def outcomes(self) -> dict[Step, set[str]]:
        """Where the VMs of each step are now."""
        found: dict[Step, set[str]] = {}
        for case in self.cases:
            found.setdefault(case.step, set()).add(_outcome(self.seen[case.vm_id]))
        return found


@asynccontextmanager
async def struck(bench: Bench, fault: Fault) -> AsyncIterator[Scene]:
    """A VM at each step that *fault* strikes, when all has come to rest."""
    async with trio.open_nursery() as nursery:
        cases = await _held(bench, fault, nursery)
        if fault.silenced:
            await trio.to_thread.run_sync(bench.shorten_leases, fault.silenced)
        await strike(bench, fault, cases)
        scene = Scene(bench, cases, {})
        await _settle(scene)
        yield scene
        await bench.clear()
        nursery.cancel_scope.cancel()


async def _held(bench: Bench, fault: Fault, nursery: trio.Nursery) -> list[Case]:
    cases: list[Case] = []
    places = trio.CapacityLimiter(AT_ONCE)

    async def hold(step: Step, part: str) -> None:
        async with places:
            cases.append(await begin(bench, step, part, nursery))

    impatient = [(step, part) for step, part in fault.strikes() if IMPATIENT.fullmatch(str(step))]
    patient = [strike for strike in fault.strikes() if strike not in impatient]
    with trio.move_on_after(SETTLE_S):
        for some in (patient, impatient):
            async with trio.open_nursery() as holding:
                for step, part in some:
                    holding.start_soon(hold, step, part)
    missing = {str(step) for step, _ in fault.strikes()} - {str(case.step) for case in cases}
    assert not missing, f"never came to {sorted(missing)}"
    return cases


async def _settle(scene: Scene) -> None:
    """Until everything is at rest, or it has been given long enough."""
    with trio.move_on_after(SETTLE_S):
        while True:
            try:
                scene.seen = await scene.bench.look(scene.cases)
                if not scene.what_is_wrong() and await _all_have_leases(scene.bench):
                    return
            except (OSError, TccpError, trio.BrokenResourceError):
                pass  # a daemon that is starting
            await trio.sleep(2 * LOOK_S)


async def _all_have_leases(bench: Bench) -> bool:
    return all([await bench.lease_of(node) for node in (SOURCE, DESTINATION)])


def _what_is_wrong(seen: Seen) -> str:
    record = seen.record
    for node, info in seen.shown.items():
        if info.state not in AT_REST:
            return f"{node} shows that it is {info.state}"
    wanted = {record.node: 1} if record is not None and record.state == "running" else {}
    if seen.processes != wanted:
        return f"processes: {seen.processes}, recorded: {record and (record.state, record.node)}"
    for node in wanted:
        shown = seen.shown[node]
        if record is None or (shown.state, shown.epoch) != ("running", record.epoch):
            return f"{node} shows {shown.state} in epoch {shown.epoch}"
    return ""


def _what_is_lost(bench: Bench, case: Case, seen: Seen) -> str:
    outcome = _outcome(seen)
    memory = f"1 {case.vm_id.hex()}"
    if outcome in {SOURCE, DESTINATION} and seen.shown[outcome].console != memory:
        return f"its memory is {seen.shown[outcome].console!r}"
    if outcome == "suspended":
        (state,) = bench.folder.glob(f"*-{case.vm_id.hex()}-*.state")
        if open_bytes(state, PAPER).decode() != memory:
            return "its state is not the one that was sealed"
    if case.said in {"suspended", "destroyed"} and outcome != case.said:
        return f"its owner was told that it is {case.said}, and it is {outcome}"
    return ""


def _outcome(seen: Seen) -> str:
    if seen.record is None:
        return "nowhere"
    if seen.record.state == "running":
        return seen.record.node
    return {"lost": "over", "ended": "over"}.get(seen.record.state, seen.record.state)
