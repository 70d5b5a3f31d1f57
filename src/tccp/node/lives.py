"""The life of one VM on this node: from its images, by its keys, to its last instruction, and what comes of it then."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tccp.errors import TccpError
from tccp.node.arrivals import Arrivals
from tccp.node.ending import Endings, unix_ms
from tccp.node.hypervisor import Hypervisor, RunningVm
from tccp.node.identity import NodeIdentity
from tccp.node.key_desk import KeyDesk
from tccp.node.launch import NamedImage, VmOrder, check_headers, launch_receipt, named_images, order_vm
from tccp.node.marking import marking
from tccp.node.one_vm import Vm
from tccp.node.peers import Peers
from tccp.node.registration import HeldLease
from tccp.node.remains import RemainsFolder

Origin = Path | Peers | None  # a suspended state, another node, or nothing: it starts


@dataclass(frozen=True, slots=True)
class Lives:
    """Lives of VMs.

    Args:
        show: Puts a VM into a state.
        changed: Called when something else about one has changed.
        mark_every_s: How often it is registered how far their disks have come.
    """

    hypervisor: Hypervisor
    desk: KeyDesk
    lease: HeldLease
    identity: NodeIdentity
    remains: RemainsFolder
    endings: Endings
    show: Callable[[Vm, str], None]
    changed: Callable[[], None]
    mark_every_s: float

    async def live(self, vm: Vm, origin: Origin, is_known: Callable[[], bool]) -> None:
        """The whole life of a VM. Nothing that happens to it ends the daemon.

        Args:
            is_known: Whether the VM has not been asked for anew meanwhile.
        """
        orders: list[VmOrder] = []
        try:
            with vm.contained(), vm.scope:
                async with named_images(vm.accepted.verified, vm.paths) as images:
                    await self.endings.until_left(vm)  # what goes with its folder is not to be what comes into it
                    self.show(vm, "asking")
                    if isinstance(origin, Peers):
                        await self._arrivals.take_over(vm, images, origin, orders)
                    else:
                        await self._start(vm, images, origin, orders)
        except TccpError as problem:
            vm.fail(problem)
        finally:
            said = await self.endings.wind_up(vm, orders)
        if vm.arrived is not None:
            await self.endings.find_out(vm, vm.arrived, is_known)
        elif isinstance(origin, Peers) and orders and not vm.is_ours:
            await self.endings.let_go(vm)
        elif vm.state == "recording" and said is not None:
            await self.endings.record(vm, said)

    async def _start(self, vm: Vm, images: tuple[NamedImage, ...], state: Path | None, orders: list[VmOrder]) -> None:
        order = await order_vm(self.desk, vm.accepted, images, state)
        orders.append(order)
        vm.epoch, vm.is_ours = order.keys.epoch, True
        await self.remains.write(vm, "here")
        check_headers(order)
        self.show(vm, "starting")
        await self.hypervisor.allow_until(self.lease.vms_end_at)
        async with self.hypervisor.open(order) as running:
            await self._run(vm, order, running)

    @property
    def _arrivals(self) -> Arrivals:
        return Arrivals(self.desk, self.hypervisor, self.lease, self.remains, self.show, self.changed, self._run)

    async def _run(self, vm: Vm, order: VmOrder, running: RunningVm) -> None:
        """From its first instruction here to its last."""
        vm.running = running
        vm.started_ms = unix_ms()
        vm.receipt = launch_receipt(
            order, vm.accepted, self.identity, started_ms=vm.started_ms, ek_certificate=running.ek_certificate
        )
        try:
            await running.run()
        finally:
            vm.has_run = running.has_run
        if vm.transfer is not None:
            vm.transfer.end()
        self.show(vm, "running")
        async with marking(vm, running, self.desk, every_s=self.mark_every_s):
            await running.ended()
