"""VMs that come from another node: taken in while they run there, and run here once nothing is left there.

Until all of it is here a destination may give up, and what it has is wiped; afterwards only the coordinator can say
whose the VM is.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import msgspec
import structlog

from tccp.errors import HostError, LaunchError
from tccp.node.hypervisor import Hypervisor, RunningVm
from tccp.node.key_desk import KeyDesk
from tccp.node.launch import NamedImage, VmOrder, check_headers, openable
from tccp.node.one_vm import Vm
from tccp.node.peers import Peers
from tccp.node.registration import HeldLease
from tccp.node.transfer import Transfer
from tccp.node.vm.streams import streams_of
from tccp.protocol.messages import MoveArrived, MoveGo, VmEnded
from tccp.protocol.transfer import SourceWord

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Takes VMs in.

    Args:
        show: Puts a VM into a state.
        changed: Called when something else about one has changed.
        run: From its first instruction here to its last.
    """

    desk: KeyDesk
    hypervisor: Hypervisor
    lease: HeldLease
    show: Callable[[Vm, str], None]
    changed: Callable[[], None]
    run: Callable[[Vm, VmOrder, RunningVm], Awaitable[None]]

    async def take_over(self, vm: Vm, images: tuple[NamedImage, ...], peers: Peers, orders: list[VmOrder]) -> None:
        """From its node to its end here. Whatever is in *orders* afterwards is to be wiped."""
        transfer = vm.transfer = Transfer()

        def hear(word: SourceWord) -> None:
            transfer.hear(word)
            self.changed()

        async with peers.waiting() as waiting:
            signed = vm.accepted.signed
            move = await self.desk.request_move(vm.accepted.verified, signed.ticket, signed.signature, waiting.address)
            order = VmOrder(vm.accepted.verified, openable(images, move.keys), move.keys)
            orders.append(order)
            vm.epoch = order.keys.epoch
            check_headers(order)
            self.show(vm, "arriving")
            await self.hypervisor.allow_until(self.lease.vms_end_at)
            async with waiting.accepted(move.source_spki_sha256, move.move_id, vm.stream_count) as streams:
                vm.arrived = MoveArrived(vm.vm_id, vm.epoch, move.move_id, b"")
                coming = replace(order, incoming=streams_of(streams, hear))
                async with self.hypervisor.open(coming) as running:
                    vm.running = running
                    vm.arrived = msgspec.structs.replace(vm.arrived, marks=await running.marks())
                    self.show(vm, "arrived")
                    go = await self.desk.recorded(vm.arrived)
                    assert isinstance(go, MoveGo)
                    vm.arrived, vm.is_ours = None, True
                    await self.run(vm, replace(order, keys=replace(order.keys, receipt=go.receipt)), running)

    async def find_out(self, vm: Vm, arrived: MoveArrived, is_known: Callable[[Vm], bool]) -> None:
        """It was here, and is no more: if it has become ours, it has ended; if it never does, nothing of it stays.

        Args:
            is_known: Whether the VM has not been asked for anew meanwhile.
        """
        try:
            await self.desk.recorded(arrived)
        except LaunchError:
            if is_known(vm):
                with contextlib.suppress(HostError):
                    await self.hypervisor.destroy(vm.vm_id)
        else:
            self.desk.report(VmEnded(vm.vm_id, arrived.epoch, b"", arrived.marks, vm.reason))
