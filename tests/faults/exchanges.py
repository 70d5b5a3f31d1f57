"""How each exchange is brought to the step at which it is held."""

from collections.abc import Awaitable, Callable

import trio

from tccp.protocol import vm_control as v
from tccp.protocol.ticket import PolicyDemand
from tests.faults.bench import DESTINATION, SOURCE, Bench, Case
from tests.faults.steps import Step
from tests.support.launching import ticket_file


async def _launch(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    hold()
    await bench.launch(case)


async def _refusal(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    signed, _ = bench.tenant.ticket([bench.disk], case.vm, policy=PolicyDemand("strict", 1, {}))
    case.ticket = ticket_file(signed)
    hold()
    await bench.launch(case)


async def _stop(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    await bench.launch(case)
    hold()
    await bench.ask(SOURCE, case, v.StopVm(case.vm_id, force=True))


async def _suspend(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    await bench.launch(case)
    hold()
    await bench.ask(SOURCE, case, v.SuspendVm(case.vm_id))


async def _resume(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    await bench.launch(case)
    await bench.ask(SOURCE, case, v.SuspendVm(case.vm_id))
    hold()
    await bench.resume(case)


async def _move(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    await bench.launch(case)
    hold()
    await bench.receive(case)


async def _stay(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    await bench.launch(case)
    (bench.folder / f"full-{DESTINATION}-{case.vm_id.hex()}").touch()
    hold()
    await bench.receive(case)


async def _destroy(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    await bench.launch(case)
    hold()
    await bench.ask(SOURCE, case, v.DestroyVm(case.vm_id))


async def _destroy_elsewhere(bench: Bench, case: Case, hold: Callable[[], None]) -> None:
    """Where the VM has gone from."""
    await bench.launch(case)
    await bench.receive(case)
    await bench.until_shown(SOURCE, case, "moved")
    hold()
    await bench.ask(SOURCE, case, v.DestroyVm(case.vm_id))


HOW: dict[str, Callable[[Bench, Case, Callable[[], None]], Awaitable[None]]] = {
    "launch": _launch,
    "refusal": _refusal,
    "mark": _launch,  # as soon as it runs
    "stop": _stop,
    "suspend": _suspend,
    "resume": _resume,
    "move": _move,
    "stay": _stay,
    "destroy": _destroy,
    "destroy elsewhere": _destroy_elsewhere,
}


async def begin(bench: Bench, step: Step, part: str, nursery: trio.Nursery) -> Case:
    """The exchange of *step*, held at it; what is said then is written down by a task of *nursery*."""
    case = bench.new_case(step)
    case.part = part
    nursery.start_soon(HOW[step.exchange], bench, case, lambda: bench.holds.want(case.vm_id, step.moment))
    await bench.holds.until_held(case.vm_id)
    return case
