"""VMs that leave for another node: sent while they run, wiped here once all is there, and only then anybody's else.

Until it has wiped its copy a source goes on alone, whatever happens to stream, destination or coordinator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from tccp.errors import HostError, TccpError
from tccp.node import silence
from tccp.node.hypervisor import RunningVm
from tccp.node.key_desk import KeyDesk
from tccp.node.one_vm import Vm
from tccp.node.peers import Peers
from tccp.node.silence import listening
from tccp.node.transfer import Transfer
from tccp.node.vm.streams import streams_of
from tccp.protocol.messages import MoveOrder, MoveStayed
from tccp.protocol.transfer import TransferProgress

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Departures:
    """Sends VMs away.

    Args:
        show: Puts a VM into a state.
        changed: Called when something else about one has changed.
    """

    desk: KeyDesk
    peers: Peers
    show: Callable[[Vm, str], None]
    changed: Callable[[], None]

    def begin(self, vm: Vm | None, order: MoveOrder, nursery: trio.Nursery) -> None:
        """The coordinator wants *vm* to be sent to another node; it may say so again."""
        if vm is not None and vm.move_id == order.move_id and (vm.is_being_sent or vm.wiped):
            return
        # A move that was tried and given up is prepared anew when the destination asks again for want of an answer.
        if (
            vm is None
            or vm.move_id == order.move_id
            or vm.state != "running"
            or vm.running is None
            or vm.epoch != order.epoch
        ):
            self.desk.report(MoveStayed(order.vm_id, order.epoch, order.move_id, "vm_not_running"))
            return
        vm.move_id, vm.saving, vm.detail, vm.transfer = order.move_id, trio.Event(), "", Transfer()
        self.show(vm, "moving")
        nursery.start_soon(self._send, vm, vm.running, order, vm.saving, vm.transfer)

    async def _send(self, vm: Vm, running: RunningVm, order: MoveOrder, saving: trio.Event, transfer: Transfer) -> None:
        try:
            with vm.contained():
                if not await self._sent(vm, running, order, transfer):
                    raise HostError("cancelled", "the move was given up here")
        except TccpError as problem:
            log.error("not_moved", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
            vm.detail = str(problem)
            if not vm.scope.cancel_called and running.outcome is None:
                await self._go_on(vm, running)
            self.desk.report(MoveStayed(order.vm_id, order.epoch, order.move_id, problem.reason))
        finally:
            saving.set()

    async def _go_on(self, vm: Vm, running: RunningVm) -> None:
        """As if nobody had wanted to move it; what stands still for ever is ended."""
        try:
            with vm.contained():
                await running.run()
        except TccpError as problem:
            log.error("not_continued", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
            if problem.reason != "qmp_gone":  # then it has ended by itself, and says why
                vm.end("not_continued")
        else:
            if vm.state == "moving":
                self.show(vm, "running")

    async def _sent(self, vm: Vm, running: RunningVm, order: MoveOrder, transfer: Transfer) -> bool:
        """Whether it has been, and nothing is left here; else it was cancelled before that."""

        def on_progress(progress: TransferProgress) -> None:
            transfer.hear(progress)
            self.changed()

        is_there = False
        with transfer.scope:
            async with self.peers.connected(order, vm.stream_count) as streams:
                async with listening(streams, silence.SENDING_S):
                    sent = await running.send(streams_of(streams), on_progress)
                with trio.CancelScope(shield=True):
                    is_there = True
                    transfer.hear(sent)
                    await running.forget()  # from here there is no way back
                    vm.wiped = True
        return is_there
