"""The node's answers on its control socket."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from tccp.control.server import Peer
from tccp.errors import LaunchError
from tccp.node.one_vm import OVER, Vm
from tccp.node.vms import Vms
from tccp.protocol import vm_control as v
from tccp.protocol.control import GetStatus, NodeStatus

AnyAnswer = msgspec.Struct | AsyncIterator[msgspec.Struct]
STARTED = frozenset({"running", "stopping", "suspending", "moving", "recording", "destroying"}) | OVER
UNSETTLED = frozenset({"suspending", "recording"})
GONE_ON = frozenset({"running", "ended", "failed"})
CANCELLING = frozenset({"checking", "asking", "starting", "arriving", "moving", "recording"})

log = structlog.get_logger()


class NodeAnswers:
    """What the node answers; roles were checked before."""

    def __init__(self, status: Callable[[], NodeStatus], vms: Vms) -> None:
        self._status, self._vms = status, vms
        self._answers: dict[type, Callable[[Any], AnyAnswer]] = {
            GetStatus: lambda _: status(),
            v.LaunchVm: self._launch,
            v.ListVms: lambda _: v.Vms(vms=tuple(vm.info() for vm in vms.all())),
            v.ShowVm: lambda request: vms.get(request.vm_id).info(),
            v.StopVm: self._stop,
            v.WatchVms: lambda _: vms.changes(),
            v.GetLaunchReceipt: self._receipt,
            v.SuspendVm: self._suspend,
            v.ResumeVm: self._resume,
            v.SnapshotVm: self._snapshot,
            v.ReceiveVm: self._receive,
            v.CancelVm: self._cancel,
            v.DestroyVm: self._destroy,
            v.GetDestructionReceipt: self._destruction_receipt,
        }

    async def __call__(self, request: Any, peer: Peer) -> AnyAnswer:
        """The answer to *request*; raises `TccpError` when it is no."""
        log.debug("control", user=peer.user, request=type(request).__name__)
        return self._answers[type(request)](request)

    def _launch(self, request: v.LaunchVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.launch(request.ticket, [Path(path) for path in request.images])
        return self._until_started(vm)

    async def _until_started(self, vm: Vm) -> AsyncIterator[msgspec.Struct]:
        """Who leaves before the VM runs does not want it any more."""
        try:
            async for info in self._vms.steps(vm):
                yield info
                if info.state in STARTED:
                    return
        finally:
            if vm.state not in STARTED:
                with contextlib.suppress(LaunchError):  # too late: all of it is here, and it will run
                    self._vms.give_up(vm)

    def _stop(self, request: v.StopVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.get(request.vm_id)
        self._vms.stop(vm, force=request.force)
        return self._vms.steps(vm)

    def _resume(self, request: v.ResumeVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.resume(request.ticket, Path(request.state), [Path(path) for path in request.images])
        return self._until_started(vm)

    def _receive(self, request: v.ReceiveVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.receive(request.ticket, [Path(path) for path in request.images])
        return self._until_started(vm)

    def _suspend(self, request: v.SuspendVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.get(request.vm_id)
        self._vms.suspend(vm)
        return self._until(vm, lambda info: info.state not in UNSETTLED)

    def _cancel(self, request: v.CancelVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.get(request.vm_id)
        self._vms.give_up(vm)
        return self._until(vm, lambda info: info.state not in CANCELLING)

    def _snapshot(self, request: v.SnapshotVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.get(request.vm_id)
        self._vms.snapshot(vm)
        return self._until_it_goes_on(vm)

    async def _until_it_goes_on(self, before: Vm) -> AsyncIterator[msgspec.Struct]:
        """Whoever leaves before the end takes nothing back."""
        async for info in self._vms.changes():
            if info.vm_id == before.vm_id:
                yield info
                if info.state in GONE_ON or (info.state == "suspended" and info.reason != "suspended"):
                    return

    def _destroy(self, request: v.DestroyVm) -> AsyncIterator[msgspec.Struct]:
        vm = self._vms.get(request.vm_id)
        self._vms.destroy(vm)
        return self._until(vm, lambda _: vm.is_over)

    async def _until(self, vm: Vm, settled: Callable[[v.VmInfo], bool]) -> AsyncIterator[msgspec.Struct]:
        async for info in self._vms.steps(vm):
            yield info
            if settled(info):
                return

    def _destruction_receipt(self, request: v.GetDestructionReceipt) -> v.DestructionReceiptFile:
        vm = self._vms.get(request.vm_id)
        if not vm.destruction:
            raise LaunchError("no_receipt", f"{vm.vm_id.hex()} is {vm.state}")
        return v.DestructionReceiptFile(body=vm.destruction)

    def _receipt(self, request: v.GetLaunchReceipt) -> v.LaunchReceiptFile:
        vm = self._vms.get(request.vm_id)
        if not vm.receipt:
            raise LaunchError("no_receipt", f"{vm.vm_id.hex()} is {vm.state}, and has not run")
        return v.LaunchReceiptFile(body=vm.receipt)
