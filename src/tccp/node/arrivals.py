"""VMs that come from another node: taken in while they run there, and run here once nothing is left there.

Until all of it is here a destination may give up, and what it has is wiped; afterwards only the coordinator can say
whose the VM is. How far its disks have come is known before the source hears that: whoever loses the VM from then on
starts it again from no older one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tccp.node import silence
from tccp.node.hypervisor import Hypervisor, RunningVm
from tccp.node.key_desk import KeyDesk
from tccp.node.launch import NamedImage, VmOrder, check_headers, openable
from tccp.node.one_vm import Vm
from tccp.node.peers import Peers
from tccp.node.registration import HeldLease
from tccp.node.remains import RemainsFolder
from tccp.node.silence import listening
from tccp.node.transfer import Transfer
from tccp.node.vm.streams import streams_of
from tccp.protocol.messages import MoveArrived, MoveGo
from tccp.protocol.transfer import SourceWord
from tccp.transport.bulk_stream import BulkStream


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
    remains: RemainsFolder
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
            await self.remains.write(vm, "here")
            check_headers(order)
            self.show(vm, "arriving")
            await self.hypervisor.allow_until(self.lease.vms_end_at)
            async with waiting.accepted(move.source_spki_sha256, move.move_id, vm.stream_count) as streams:
                await self._take_in(vm, order, streams, move.move_id, hear)

    async def _take_in(
        self,
        vm: Vm,
        order: VmOrder,
        streams: Sequence[BulkStream],
        move_id: bytes,
        hear: Callable[[SourceWord], None],
    ) -> None:
        def here(marks: bytes) -> None:
            vm.arrived = MoveArrived(vm.vm_id, vm.epoch, move_id, marks)

        coming = replace(order, incoming=streams_of(streams, hear, here))
        async with listening(streams, silence.RECEIVING_S) as watching, self.hypervisor.open(coming) as running:
            watching.cancel()
            vm.running = running
            assert vm.arrived is not None
            self.show(vm, "arrived")
            go = await self.desk.recorded(vm.arrived)
            assert isinstance(go, MoveGo)
            vm.arrived, vm.is_ours = None, True
            await self.run(vm, replace(order, keys=replace(order.keys, receipt=go.receipt)), running)
