"""While a VM runs: how far its disks have come is registered, so that no older one of them passes after a crash.

    disks --marks--> VmMarked --> coordinator --> VmMarksRecorded --kept--> disks, which may forget older ones

Marks are asked for again only once the last ones are on record: while the coordinator is away nothing piles up, the VM
runs on, and its disks remember what was registered last. A disk in which nothing was written says the same again, and
nobody is told.
"""

import contextlib
from collections.abc import AsyncIterator

import structlog
import trio

from tccp.errors import DiskError, HostError, LaunchError
from tccp.node.hypervisor import RunningVm
from tccp.node.key_desk import KeyDesk
from tccp.node.one_vm import Vm
from tccp.protocol.messages import VmMarked, VmMarksRecorded

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def marking(vm: Vm, running: RunningVm, desk: KeyDesk, *, every_s: float) -> AsyncIterator[None]:
    """Register the marks of *running*, at once and then every *every_s* seconds, until the end of the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_register, vm, running, desk, every_s)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


async def _register(vm: Vm, running: RunningVm, desk: KeyDesk, every_s: float) -> None:
    registered = b""
    with contextlib.suppress(HostError):  # it is ending; whoever waits for that says why
        while True:
            registered = await _registered(vm, running, desk, registered)
            await trio.sleep(every_s)


async def _registered(vm: Vm, running: RunningVm, desk: KeyDesk, before: bytes) -> bytes:
    """What is on record then, where *before* was; empty when that is unknown."""
    try:
        marks = await running.marks()
        if marks == before:
            return before
        answer = await desk.recorded(VmMarked(vm.vm_id, vm.epoch, marks))
        assert isinstance(answer, VmMarksRecorded)
        await running.keep(answer.marks)
    except (LaunchError, DiskError) as problem:
        # A disk that cannot write just now; an answer to what was said before, on another connection; or the VM is not
        # ours any more, and is ending.
        log.warning("marks_not_registered", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
        return b""
    return answer.marks
