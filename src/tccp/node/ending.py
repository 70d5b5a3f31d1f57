"""When nothing of a VM runs here any more: what the coordinator is told, and what is removed.

A destruction is written down before anything is wiped, and the note stays until the coordinator has recorded it: a
later run of the daemon, after a crash or a reboot of the host, wipes what is left and says so under its own boot.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from tccp.errors import HostError, LaunchError, TccpError
from tccp.node.destruction import destroyed_here, destruction_receipt, wiped_here
from tccp.node.hypervisor import Hypervisor, VmOutcome
from tccp.node.identity import NodeIdentity
from tccp.node.key_desk import KeyDesk
from tccp.node.launch import VmOrder
from tccp.node.one_vm import Vm
from tccp.node.released import ReleasedKeys, not_started
from tccp.node.remains import RemainsFolder, Word
from tccp.protocol.messages import MoveArrived, NodeReport, VmDestroyRecorded, VmEnded, VmSuspended

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Endings:
    """Ends of VMs.

    Args:
        show: Puts a VM into a state.
    """

    hypervisor: Hypervisor
    desk: KeyDesk
    identity: NodeIdentity
    remains: RemainsFolder
    show: Callable[[Vm, str], None]
    _leaving: set[bytes] = field(default_factory=set, init=False)  # of which what is here is being removed
    _left: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot, init=False, repr=False)

    async def wind_up(self, vm: Vm, orders: Sequence[VmOrder]) -> NodeReport | None:
        """Nothing of it runs any more: wipe its keys, and begin to tell the coordinator, if it is ours to tell."""
        for order in orders:
            order.wipe()
        said: NodeReport | None = None
        try:
            with vm.contained():
                with trio.CancelScope(shield=True):
                    await vm.saved_or_sent()
                said = self._wind_up(vm, orders)
        except HostError as bug:
            vm.running = None
            vm.fail(bug)
        if said is not None and (vm.saved is not None or vm.wiped):
            self.show(vm, "recording")
        else:
            self.show(vm, "failed" if vm.problem else "ended")
        return said

    def _wind_up(self, vm: Vm, orders: Sequence[VmOrder]) -> NodeReport | None:
        outcome = (vm.running.outcome if vm.running else None) or VmOutcome("stopped")
        vm.running = None
        vm.reason, vm.detail = vm.reason or outcome.reason, outcome.detail or vm.detail
        vm.ended_ms = unix_ms()
        if vm.arrived is not None or not vm.is_ours:
            return None
        said = self.report(vm, orders[0].keys, outcome)
        self.desk.report(said)
        return said

    def report(self, vm: Vm, keys: ReleasedKeys, outcome: VmOutcome) -> NodeReport:
        """What is to be said of a VM that is ours, and has ended here."""
        if vm.wiped:
            return wiped_here(self.identity, vm.vm_id, vm.epoch, vm.move_id)
        if vm.saved is not None:
            return VmSuspended(vm.vm_id, vm.epoch, vm.epoch, vm.saved.root, outcome.disk_root, outcome.marks)
        if vm.has_run:
            return VmEnded(vm.vm_id, vm.epoch, outcome.disk_root, outcome.marks, vm.reason)
        return not_started(vm.vm_id, keys, reason=vm.reason, left=(outcome.disk_root, outcome.marks))

    async def find_out(self, vm: Vm, arrived: MoveArrived, is_known: Callable[[], bool]) -> None:
        """It was here, and is no more: if it has become ours, it has ended; if it never does, nothing of it stays.

        Args:
            is_known: Whether the VM has not been asked for anew meanwhile.
        """
        try:
            with vm.contained():
                await self.desk.recorded(arrived)
                self.desk.report(VmEnded(vm.vm_id, arrived.epoch, b"", arrived.marks, vm.reason))
        except LaunchError:
            if is_known():
                await self.let_go(vm)
        except HostError as bug:
            vm.fail(bug)
        self.show(vm, vm.state)

    async def let_go(self, vm: Vm) -> None:
        """It has not become ours, and never will: remove what has come of it."""
        try:
            with vm.contained():
                await self._discard(vm)
        except HostError as problem:
            log.error("not_removed", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
            self._fail(vm, problem)
        else:
            self.show(vm, vm.state)

    async def _discard(self, vm: Vm) -> None:
        """Remove what has come of it; but not the states that its tenant lets us go back to, from an earlier stay."""
        if not vm.may_roll_back:
            await self.leave(vm)
            return
        with self._is_leaving(vm):
            if not await self.hypervisor.discard(vm.vm_id):
                await self.remains.forget(vm)

    async def record(self, vm: Vm, said: NodeReport) -> None:
        """It is suspended, or has moved, once the coordinator has recorded that."""
        state = "moved" if vm.wiped else "suspended"
        try:
            with vm.contained():
                await self.desk.recorded(said)
                if vm.wiped:
                    await self.leave(vm)
                else:
                    await self._note(vm, "suspended")
        except TccpError as problem:
            self._fail(vm, problem)
        else:
            vm.reason = state
            self.show(vm, state)

    async def leave(self, vm: Vm) -> None:
        """Remove what is here of a VM that another node has; its disks grow old.

        Raises:
            HostError: Something is left.
        """
        with self._is_leaving(vm):
            await self._note(vm, "leaving")
            await self.hypervisor.destroy(vm.vm_id)
            await self.remains.forget(vm)

    async def until_left(self, vm: Vm) -> None:
        """Until what is here of that VM, if it was leaving, has gone; it comes back only then."""
        while vm.vm_id in self._leaving:
            await self._left.park()

    def expect_to_leave(self, vm: Vm) -> None:
        """`leave_now` follows for it, and `until_left` waits for that."""
        self._leaving.add(vm.vm_id)

    @contextlib.contextmanager
    def _is_leaving(self, vm: Vm) -> Iterator[None]:
        self._leaving.add(vm.vm_id)
        try:
            yield
        finally:
            self._leaving.discard(vm.vm_id)
            self._left.unpark_all()

    async def leave_now(self, vm: Vm) -> None:
        """The same, for what an earlier run of the daemon has left."""
        try:
            with vm.contained():
                await self.leave(vm)
        except HostError as problem:
            self._fail(vm, problem)
        else:
            self.show(vm, vm.state)

    async def doom(self, vm: Vm) -> None:
        """From here on it is destroyed, whatever comes between."""
        await self._note(vm, "doomed")

    async def destroy(self, vm: Vm) -> None:
        """Wipe all that there is of a VM that runs no more, and say so until the coordinator has recorded it."""
        self.show(vm, "destroying")
        try:
            with vm.contained():
                await self.hypervisor.destroy(vm.vm_id)
                said = destroyed_here(self.identity, vm.vm_id, vm.last_epoch, at_ms=unix_ms())
                answer = await self.desk.recorded(said)
                assert isinstance(answer, VmDestroyRecorded)
                vm.destruction = destruction_receipt(said, self.identity, answer)
        except TccpError as problem:
            vm.is_doomed = False
            if isinstance(problem, LaunchError):  # another has it: nothing of it is here, and that is all
                await self.remains.forget(vm)
            self._fail(vm, problem)
            return
        vm.is_doomed, vm.reason, vm.problem = False, "destroyed", None
        await self._note(vm, "destroyed")
        self.show(vm, "destroyed")

    async def _note(self, vm: Vm, word: Word) -> None:
        """Where that cannot be written, it goes on all the same: a full disk does not keep a VM."""
        try:
            with vm.contained():
                await self.remains.write(vm, word)
        except HostError as problem:
            log.error("not_noted", vm=vm.vm_id.hex(), word=word, reason=problem.reason, detail=problem.detail)

    def _fail(self, vm: Vm, problem: TccpError) -> None:
        vm.fail(problem)
        self.show(vm, "failed")


def unix_ms() -> int:
    """Now, by the host's clock."""
    return int(time.time() * 1000)
