"""The VMs of this node, each a task: from a ticket to its end, after which its keys are wiped and the coordinator told.

    checking -> asking -> starting -> running -> stopping ---------------> ended
        |          |          |        |  '--> suspending -> recording --> suspended
        |          |          |        |  '--> moving -----> recording --> moved
        |          '-> arriving -> arrived (from another node) -> running
        '----------'----------'--------'-----------'-------------'-------> failed
    any of them, or what has ended -> destroying ------------------------> destroyed

A VM runs only while the node's lease holds. When it lapses, or the node is put out, every VM is ended and every key
wiped without anybody having to reach us.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import structlog
import trio

from tccp.errors import HostError, LaunchError, TccpError
from tccp.node.departures import Departures
from tccp.node.ending import Endings, unix_ms
from tccp.node.hypervisor import Hypervisor, RunningVm
from tccp.node.identity import NodeIdentity
from tccp.node.key_desk import KeyDesk
from tccp.node.launch import accept_ticket
from tccp.node.lives import Lives, Origin
from tccp.node.one_vm import OVER, Vm
from tccp.node.peers import Peers
from tccp.node.registration import HeldLease
from tccp.node.remains import RemainsFolder
from tccp.node.watching import Changes
from tccp.protocol.encoding import encode
from tccp.protocol.messages import MoveOrder
from tccp.protocol.vm_control import VmInfo

VMS_MAX = 256
ENDED_KEPT_MAX = 64
LEASE_LOOK_S = 0.5
BEFORE_IT_RUNS = frozenset({"checking", "asking", "starting", "arriving"})
ENDS_RECORDED_S = 5.0

log = structlog.get_logger()


class Vms:
    """All VMs of which something is here, and those of this run of the daemon; `run` must be running.

    Args:
        hypervisor: Starts them.
        peers: Nodes to and from which they move.
        lease: Without which none runs.
        remains: What earlier runs of the daemon have left, and a later one will know.
        mark_every_s: How often it is registered how far their disks have come.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        desk: KeyDesk,
        lease: HeldLease,
        identity: NodeIdentity,
        coordinator_id: bytes,
        *,
        peers: Peers,
        remains: RemainsFolder,
        mark_every_s: float,
    ) -> None:
        self._remains = remains
        self._endings = Endings(hypervisor, desk, identity, remains, self._set)
        self._peers, self._departures = peers, Departures(desk, peers, self._set, self._changed)
        self._lives = Lives(
            hypervisor, desk, lease, identity, remains, self._endings, self._set, self._changed, mark_every_s
        )
        desk.on_order = self._begin_move
        self._hypervisor, self._desk, self._lease = hypervisor, desk, lease
        self._coordinator_id = coordinator_id
        self._recalled = remains.recall(coordinator_id)
        self._by_id = {vm.vm_id: vm for vm, _ in self._recalled}
        self.change_count = 0
        self._watchers = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None
        self._takes_none = False  # this node stops

    async def run(self) -> None:
        """Look after all VMs, until cancelled; then all of them are ended."""
        async with trio.open_nursery() as self._nursery:
            self._go_on()
            await self._look_after_lease()

    def launch(self, ticket: bytes, paths: Sequence[Path]) -> Vm:
        """Begin to start the VM of a ticket; what becomes of it, `changes` tells.

        Raises:
            LaunchError: It is no ticket for our coordinator, or ``vm_running``: it runs here already.
            HostError: ``not_admitted``: this node holds no lease; ``node_stops``; ``too_many_vms``; and as
                `Hypervisor.check`.
        """
        return self._begin(ticket, paths, None)

    def _begin(self, ticket: bytes, paths: Sequence[Path], origin: Origin) -> Vm:
        assert self._nursery is not None
        accepted = accept_ticket(ticket, self._coordinator_id)
        self._hypervisor.check(accepted.verified.ticket)
        if self._takes_none:
            raise HostError("node_stops", "this node is about to stop, and ends its VMs")
        if not self._lease.allows_vms:
            hint = "`tccp node status` says why"
            raise HostError("not_admitted", "this node holds no lease, so it gets no keys", hint=hint)
        before = self._by_id.get(accepted.verified.ticket.vm_id)
        if before is not None and not before.is_over:
            raise LaunchError("vm_running", f"{before.vm_id.hex()} is {before.state} on this node")
        if sum(not vm.is_over for vm in self._by_id.values()) >= VMS_MAX:
            raise HostError("too_many_vms", f"{VMS_MAX} run already")
        vm = Vm(accepted, unix_ms(), paths=tuple(paths))
        if before is not None:
            vm.come_after(before)
        self._by_id.pop(vm.vm_id, None)
        self._by_id[vm.vm_id] = vm
        self._forget_old()
        self._nursery.start_soon(self._lives.live, vm, origin, lambda: self._by_id.get(vm.vm_id) is vm)
        return vm

    def resume(self, ticket: bytes, state: Path, paths: Sequence[Path]) -> Vm:
        """Begin to have a VM go on from the file of its suspended state; raises as `launch`."""
        return self._begin(ticket, paths, state)

    def receive(self, ticket: bytes, paths: Sequence[Path]) -> Vm:
        """Begin to take over the VM of a ticket from the node where it runs; raises as `launch`."""
        return self._begin(ticket, paths, self._peers)

    def get(self, vm_id: bytes) -> Vm:
        """The VM of that id.

        Raises:
            LaunchError: ``vm_unknown``.
        """
        try:
            return self._by_id[vm_id]
        except KeyError:
            raise LaunchError("vm_unknown", f"{vm_id.hex()} has not been launched here") from None

    def all(self) -> list[Vm]:
        """Every VM, the newest first."""
        return list(reversed(self._by_id.values()))

    def stop(self, vm: Vm, *, force: bool) -> None:
        """Ask the guest to shut down, or pull the plug; what comes of it, `steps` tells."""
        if vm.running is None or vm.is_over:
            vm.end("stopped")
        else:
            assert self._nursery is not None
            self._set(vm, "stopping")
            self._nursery.start_soon(self._stop, vm, vm.running.kill if force else vm.running.shut_down)

    def suspend(self, vm: Vm) -> None:
        """Begin to write it to a file; it is "suspended" once the coordinator has recorded that, else it runs on.

        Raises:
            LaunchError: ``vm_not_running``.
        """
        if vm.state != "running" or vm.running is None:
            raise LaunchError("vm_not_running", f"{vm.vm_id.hex()} is {vm.state}")
        assert self._nursery is not None
        vm.saving, vm.detail = trio.Event(), ""
        self._set(vm, "suspending")
        self._nursery.start_soon(self._suspend, vm, vm.running, vm.saving)

    def snapshot(self, vm: Vm) -> None:
        """Begin to keep its state: it is suspended, and resumed at once here, in the next epoch.

        Raises:
            LaunchError: ``snapshot_not_allowed`` by its ticket; ``vm_not_running``.
        """
        if not vm.may_roll_back:
            hint = "its tenant may allow it: `tccp ticket create --allow-rollback`"
            raise LaunchError("snapshot_not_allowed", f"the ticket of {vm.vm_id.hex()} does not", hint=hint)
        self.suspend(vm)
        assert self._nursery is not None
        self._nursery.start_soon(self._resume_again, vm)

    async def _resume_again(self, vm: Vm) -> None:
        while vm.state in {"suspending", "recording"}:
            await self.wait_for_change(self.change_count)
        if vm.state != "suspended" or vm.saved is None:
            return
        try:
            with vm.contained():
                again = self._begin(encode(vm.accepted.signed), vm.paths, vm.saved.path)
        except TccpError as problem:  # it stays suspended, and can be resumed by hand
            log.error("not_resumed", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
            vm.fail(problem)
            self._changed()
        else:
            again.detail = vm.saved.problem
            again.kept = None if vm.saved.problem else vm.saved.path

    def destroy(self, vm: Vm) -> None:
        """Begin to end it, and to wipe all that there is of it; "destroyed" once the coordinator has recorded that.

        Raises:
            LaunchError: ``vm_not_released``: this node never had it.
        """
        if not vm.last_epoch:
            raise LaunchError("vm_not_released", f"{vm.vm_id.hex()} is {vm.state}, and its keys were not released")
        assert self._nursery is not None
        if not vm.is_doomed and vm.state != "destroyed":
            vm.is_doomed, vm.problem = True, None
            self._nursery.start_soon(self._destroy, vm)

    def give_up(self, vm: Vm) -> None:
        """Begin to give up a start, or a move, at either end; what comes of it, `steps` tells.

        Raises:
            LaunchError: ``too_late``: it runs here, has ended, or nobody here can decide that any more.
        """
        if vm.state == "moving" and vm.transfer is not None:
            vm.transfer.cancel()
        elif vm.state in BEFORE_IT_RUNS and not (vm.transfer and vm.transfer.sent):
            vm.end("cancelled")
        else:
            raise LaunchError("too_late", f"{vm.vm_id.hex()} is {vm.state}")

    def lose_all(self, reason: str, detail: str = "") -> None:
        """The node is out: end every VM now."""
        for vm in self._by_id.values():
            if not vm.is_gone:
                vm.end(reason, detail)

    async def end_all(self, reason: str) -> None:
        """End every VM, take none any more, and return when all are gone and, if it listens, the coordinator knows."""
        self._takes_none = True  # whoever launched VMs in the meantime would keep us from ever stopping
        self.lose_all(reason)
        while not all(vm.is_gone for vm in self._by_id.values()):
            await self.wait_for_change(self.change_count)
        with trio.move_on_after(ENDS_RECORDED_S):
            await self._desk.all_recorded()

    def changes(self) -> AsyncIterator[VmInfo]:
        """Each VM, the oldest first, and again each time that something about it has changed. Nothing to close."""
        return Changes(self, None)

    def steps(self, vm: Vm) -> AsyncIterator[VmInfo]:
        """*vm* at each step that it takes, the present one first; ends when it is over. Nothing to close."""
        return Changes(self, vm)

    async def wait_for_change(self, seen: int) -> None:
        """Return once `change_count` is no longer *seen*."""
        while self.change_count == seen:
            await self._watchers.park()

    # ---- how

    def _go_on(self) -> None:
        """With what an earlier run of the daemon has begun."""
        for vm, word in self._recalled:
            if word == "doomed":
                self.destroy(vm)
            elif word == "leaving":
                assert self._nursery is not None
                self._endings.expect_to_leave(vm)
                self._nursery.start_soon(self._endings.leave_now, vm)

    async def _look_after_lease(self) -> None:
        while True:
            self._desk.say()
            if self._lease.allows_vms:
                await self._hypervisor.allow_until(self._lease.vms_end_at)
                await trio.sleep(min(max(self._lease.vms_left_s, 0.0), LEASE_LOOK_S))
            else:
                self.lose_all("lease_lapsed", "this node could not renew it: see `tccp node status`")
                await trio.sleep(LEASE_LOOK_S)

    def _begin_move(self, order: MoveOrder) -> None:
        assert self._nursery is not None
        self._departures.begin(self._by_id.get(order.vm_id), order, self._nursery)

    async def _stop(self, vm: Vm, stop: Callable[[], Awaitable[object]]) -> None:
        try:
            with vm.contained():
                await stop()
        except TccpError as problem:
            vm.end(problem.reason)

    async def _suspend(self, vm: Vm, running: RunningVm, saving: trio.Event) -> None:
        try:
            with vm.contained():
                vm.saved = await running.suspend()
            vm.detail = vm.saved.problem
        except TccpError as problem:
            log.error("not_suspended", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
            vm.detail = str(problem)
            if vm.state == "suspending":
                self._set(vm, "running")
        finally:
            saving.set()

    async def _destroy(self, vm: Vm) -> None:
        await self._endings.doom(vm)
        vm.end("destroyed")
        while vm.state not in OVER:
            await self.wait_for_change(self.change_count)
        await self._endings.destroy(vm)

    def _set(self, vm: Vm, state: str) -> None:
        vm.state = state
        log.info("vm", vm=vm.vm_id.hex(), state=state, reason=vm.reason, epoch=vm.epoch)
        self._changed()

    def _changed(self) -> None:
        self.change_count += 1
        self._watchers.unpark_all()

    def _forget_old(self) -> None:
        gone = [vm for vm in self._by_id.values() if vm.is_over and not vm.left_something]
        for vm in gone[: max(0, len(gone) - ENDED_KEPT_MAX)]:
            del self._by_id[vm.vm_id]
            assert self._nursery is not None
            self._nursery.start_soon(self._remains.forget, vm)
