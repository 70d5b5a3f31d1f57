"""QEMU as the hypervisor of this node: from what was released by a ticket to what `tccp.node.vm` starts."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tccp.config import VmsConfig
from tccp.core.image import ImageKey
from tccp.core.memory import wipe
from tccp.errors import LaunchError
from tccp.model import SecretBytes
from tccp.node.hypervisor import SavedState, VmOutcome
from tccp.node.identity import NodeIdentity
from tccp.node.launch import VmOrder
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.description import DISKS_MAX, SECRET_BYTES_MAX, VmDescription, VmDisk, VmImages, VmSecrets
from tccp.node.vm.host import HostSettings, UserRange, VmHost, open_host
from tccp.node.vm.memory_file import open_in_memory
from tccp.node.vm.opening import open_vm
from tccp.node.vm.state import ResumedState, state_key
from tccp.node.vm.streams import Streams
from tccp.node.vm.vm import Vm
from tccp.node.vm_folder import STATE_NAME, VmFolder, marks_of, remove_all, remove_live, sealed_file
from tccp.protocol.marks import split_marks
from tccp.protocol.ticket import Ticket
from tccp.protocol.transfer import TransferProgress, TransferSent

DATA_SECRET = "data"  # noqa: S105 - the name under which the guest finds it


@asynccontextmanager
async def open_qemu_hypervisor(config: VmsConfig, identity: NodeIdentity) -> AsyncIterator["QemuHypervisor"]:
    """Make the host ready for VMs.

    Raises:
        ConfigError, HostError: As `open_host`.
    """
    users = None if config.first_user is None else UserRange(config.first_user, config.users)
    settings = HostSettings(Path(config.run), Path(config.state), users, config.console_group)
    issuer = VtpmIssuer(identity.name, identity.signing_key, identity.statement)
    async with open_host(settings, issuer) as host:
        yield QemuHypervisor(host)


class QemuVm:
    """A VM of QEMU's."""

    def __init__(self, vm: Vm, folder: VmFolder, order: VmOrder) -> None:
        self._vm, self._folder, self._order = vm, folder, order
        self.outcome: VmOutcome | None = None
        self._ending = trio.Lock()

    @property
    def console(self) -> str:
        """The socket of its console."""
        return str(self._vm.console_path)

    @property
    def ek_certificate(self) -> bytes:
        """Of its vTPM."""
        return self._vm.vtpm.certificates.ek_certificate

    @property
    def has_run(self) -> bool:
        """See `tccp.node.hypervisor.RunningVm.has_run`."""
        return self._vm.has_run

    async def run(self) -> None:
        """Let the guest run; a state that it goes on from is of no use to anybody after that."""
        await self._vm.run()
        if not self._folder.may_go_back:
            await trio.to_thread.run_sync(self._folder.remove_states)

    async def shut_down(self) -> None:
        """By the power button."""
        await self._vm.shut_down()

    async def kill(self) -> None:
        """By the plug."""
        await self._vm.kill()

    async def marks(self) -> bytes:
        """Of its vTPM, then of each disk."""
        return b"".join(await self._vm.marks())

    async def keep(self, marks: bytes) -> None:
        """Each disk its own."""
        await self._vm.keep(split_marks(marks))

    async def suspend(self) -> SavedState:
        """Into a file in the VM's folder, under the key of this epoch."""
        epoch = self._order.keys.epoch
        path = self._folder.path / STATE_NAME.format(epoch)
        key, problem = _state_key(self._order, epoch), ""
        try:
            state = await self._vm.suspend(path, key)
            if self._folder.may_go_back:
                with trio.CancelScope(shield=True):
                    await self.ended()  # what is known of the disks stands beside them
                    problem = await trio.to_thread.run_sync(self._folder.keep_disks, epoch)
        finally:
            key.wipe()
        return SavedState(path, state.root, state.size_bytes, problem)

    async def send(self, streams: Streams, on_progress: Callable[[TransferProgress], None]) -> TransferSent:
        """QEMU's own migration and mirrors, through *streams*."""
        return await self._vm.send(streams, on_progress=on_progress)

    async def forget(self) -> None:
        """All that is in memory; disks stay until `QemuHypervisor.destroy`."""
        await self._vm.forget()

    async def ended(self) -> VmOutcome:
        """Until it has ended and its disks are written."""
        end = await self._vm.ended()
        async with self._ending:
            if self.outcome is None:
                root = await trio.to_thread.run_sync(self._folder.left, end)
                self.outcome = VmOutcome(end.reason, end.detail, root, marks_of(end))
        return self.outcome


class QemuHypervisor:
    """Starts VMs on *host*; made by `open_qemu_hypervisor`."""

    def __init__(self, host: VmHost) -> None:
        self._host = host

    def check(self, ticket: Ticket) -> None:
        """See `tccp.node.hypervisor.Hypervisor.check`."""
        _description(ticket)
        if sum(image.role == "disk" for image in ticket.images) > DISKS_MAX:
            raise LaunchError("shape_unsupported", f"a VM has {DISKS_MAX} disks at most here")

    async def allow_until(self, deadline: float) -> None:
        """See `tccp.node.hypervisor.Hypervisor.allow_until`."""
        await self._host.keeper.allow_until(deadline)

    @asynccontextmanager
    async def open(self, order: VmOrder) -> AsyncIterator[QemuVm]:
        """See `tccp.node.hypervisor.Hypervisor.open`."""
        folder = VmFolder(self._host.settings.state / order.ticket.ticket.vm_id.hex(), order)
        if order.incoming is not None:  # its disks are where it runs; whatever is here is older
            await trio.to_thread.run_sync(folder.remove_disks)
        disks, vtpm = await trio.to_thread.run_sync(folder.demands)  # it may copy disks
        description, images = _description(order.ticket.ticket), _images(order, disks)
        for_guest = await _for_guest(order)
        resume = _resumed(order)
        secrets = VmSecrets(SecretBytes(bytes(order.keys.vm_key.buffer)), for_guest)
        running: QemuVm | None = None

        def let_go() -> None:
            secrets.wipe()
            if resume is not None:
                resume.key.wipe()

        try:
            opened = open_vm(
                description,
                images,
                secrets,
                host=self._host,
                resume=resume,
                incoming=order.incoming,
                vtpm=vtpm,
            )
            async with opened as vm:
                let_go()  # vTPM and QEMU have what they need
                running = QemuVm(vm, folder, order)
                yield running
        finally:
            let_go()
            if running is not None:
                with trio.CancelScope(shield=True):
                    await running.ended()

    async def destroy(self, vm_id: bytes) -> None:
        """See `tccp.node.hypervisor.Hypervisor.destroy`."""
        await trio.to_thread.run_sync(remove_all, self._host.settings.state / vm_id.hex())

    async def discard(self, vm_id: bytes) -> bool:
        """See `tccp.node.hypervisor.Hypervisor.discard`."""
        return await trio.to_thread.run_sync(remove_live, self._host.settings.state / vm_id.hex())


def _resumed(order: VmOrder) -> ResumedState | None:
    if order.state is None:
        return None
    return ResumedState(order.state, order.keys.state_root, _state_key(order, order.keys.generation))


def _state_key(order: VmOrder, generation: int) -> ImageKey:
    vm_key = bytes(order.keys.vm_key.buffer)
    try:
        return state_key(SecretBytes(vm_key), generation)
    finally:
        wipe(vm_key)


def _description(ticket: Ticket) -> VmDescription:
    shape = ticket.shape
    if shape.networks:
        raise LaunchError("shape_unsupported", f"no network {shape.networks[0]!r} here")
    try:
        return VmDescription(
            vm_id=ticket.vm_id,
            vcpus=shape.vcpus,
            memory_mib=shape.memory_mib,
            firmware=shape.firmware,
            cmdline=shape.cmdline,
        )
    except ValueError as problem:
        raise LaunchError("shape_unsupported", str(problem)) from None


def _images(order: VmOrder, disks: tuple[VmDisk, ...]) -> VmImages:
    one = {image.role: sealed_file(image) for image in order.images}
    return VmImages(kernel=one.get("kernel"), initrd=one.get("initrd"), disks=disks)


async def _for_guest(order: VmOrder) -> dict[str, SecretBytes]:
    """The plaintext of the ticket's data, through memory only."""
    data = next((image for image in order.images if image.role == "data"), None)
    if data is None:
        return {}
    if not 0 < data.sealed.info.size <= SECRET_BYTES_MAX:
        raise LaunchError("shape_unsupported", f"data of {data.sealed.info.size} bytes; 1 to {SECRET_BYTES_MAX} fit")
    descriptor = await open_in_memory(sealed_file(data), "data")
    try:
        return {DATA_SECRET: SecretBytes(os.pread(descriptor, SECRET_BYTES_MAX, 0))}
    finally:
        os.close(descriptor)
