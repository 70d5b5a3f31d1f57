"""VMs that leave for another node: sent while they run, wiped here once all is there, and only then anybody's else.

Until it has wiped its copy a source goes on alone, whatever happens to stream, destination or coordinator.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from tccp.errors import TccpError
from tccp.node import silence
from tccp.node.hypervisor import RunningVm
from tccp.node.key_desk import KeyDesk
from tccp.node.one_vm import Vm
from tccp.node.peers import Peers
from tccp.node.silence import listening
from tccp.protocol.messages import MoveOrder, MoveStayed

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Departures:
    """Sends VMs away.

    Args:
        show: Puts a VM into a state.
    """

    desk: KeyDesk
    peers: Peers
    show: Callable[[Vm, str], None]

    def begin(self, vm: Vm | None, order: MoveOrder, nursery: trio.Nursery) -> None:
        """The coordinator wants *vm* to be sent to another node; it may say so again."""
        if vm is not None and vm.move_id == order.move_id and (vm.state == "moving" or vm.wiped):
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
        vm.move_id, vm.saving, vm.detail = order.move_id, trio.Event(), ""
        self.show(vm, "moving")
        nursery.start_soon(self._send, vm, vm.running, order, vm.saving)

    async def _send(self, vm: Vm, running: RunningVm, order: MoveOrder, saving: trio.Event) -> None:
        try:
            async with self.peers.connected(order, vm.stream_count) as streams:
                with listening(streams, silence.SENDING_S) as watch:
                    await running.send(watch.streams)
                with trio.CancelScope(shield=True):
                    await running.forget()  # from here there is no way back
                    vm.wiped = not vm.is_gone
        except TccpError as problem:
            log.error("not_moved", vm=vm.vm_id.hex(), reason=problem.reason, detail=problem.detail)
            vm.detail = str(problem)
            with contextlib.suppress(TccpError):
                await running.run()
            if vm.state == "moving":
                self.show(vm, "running")
            self.desk.report(MoveStayed(order.vm_id, order.epoch, order.move_id, problem.reason))
        finally:
            saving.set()
