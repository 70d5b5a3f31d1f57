"""QEMU as the hypervisor of this node: from what was released by a ticket to what `tccp.node.vm` starts.

A VM's live disks stand in the node's state folder, one for each disk image of the ticket. The coordinator keeps one
root for a VM: that of its disk, or with several disks a hash over all their roots, which then stand in a file there.
"""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tccp.config import VmsConfig
from tccp.core.image import ImageKey
from tccp.errors import DiskError, HostError, LaunchError
from tccp.image.sealed import open_image
from tccp.model import SecretBytes
from tccp.node.hypervisor import SavedState, VmOutcome
from tccp.node.identity import NodeIdentity
from tccp.node.launch import OpenableImage, VmOrder
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.description import DISKS_MAX, SECRET_BYTES_MAX, SealedFile, VmDescription, VmDisk, VmImages, VmSecrets
from tccp.node.vm.host import HostSettings, UserRange, VmHost, open_host
from tccp.node.vm.memory_file import memory_file
from tccp.node.vm.opening import open_vm
from tccp.node.vm.state import ResumedState, state_key
from tccp.node.vm.vm import Vm, VmEnd
from tccp.protocol.marks import split_marks
from tccp.protocol.ticket import Ticket

DATA_SECRET = "data"  # noqa: S105 - the name under which the guest finds it
ROOTS_DOMAIN = b"tccp/v1/disk-roots\0"
ROOT_BYTES = 32
STATE_NAME = "suspended-{}.sealed"  # with its generation


@asynccontextmanager
async def open_qemu_hypervisor(config: VmsConfig, identity: NodeIdentity) -> AsyncIterator["QemuHypervisor"]:
    """Make the host ready for VMs.

    Raises:
        ConfigError, HostError: As `open_host`.
    """
    users = None if config.first_user is None else UserRange(config.first_user, config.users)
    settings = HostSettings(Path(config.run), Path(config.state), users, config.console_group)
    issuer = VtpmIssuer(identity.name, identity.signing_key, identity.statement)
    _clear_partial(settings.state)
    async with open_host(settings, issuer) as host:
        yield QemuHypervisor(host)


class QemuVm:
    """A VM of QEMU's."""

    def __init__(self, vm: Vm, disks: "_Disks", order: VmOrder) -> None:
        self._vm, self._disks, self._order = vm, disks, order
        self.outcome: VmOutcome | None = None

    @property
    def console(self) -> str:
        """The socket of its console."""
        return str(self._vm.console_path)

    @property
    def ek_certificate(self) -> bytes:
        """Of its vTPM."""
        return self._vm.vtpm.certificates.ek_certificate

    async def run(self) -> None:
        """Let the guest run; a state that it goes on from is of no use to anybody after that."""
        await self._vm.run()
        await trio.to_thread.run_sync(remove_states, self._disks.folder)

    async def shut_down(self) -> None:
        """By the power button."""
        await self._vm.shut_down()

    async def kill(self) -> None:
        """By the plug."""
        await self._vm.kill()

    async def marks(self) -> bytes:
        """Of all its disks."""
        return b"".join(await self._vm.marks())

    async def keep(self, marks: bytes) -> None:
        """Each disk its own."""
        await self._vm.keep(split_marks(marks))

    async def suspend(self) -> SavedState:
        """Into a file in the VM's folder, under the key of this epoch."""
        epoch = self._order.keys.epoch
        path = self._disks.folder / STATE_NAME.format(epoch)
        key = _state_key(self._order, epoch)
        try:
            state = await self._vm.suspend(path, key)
        finally:
            key.wipe()
        return SavedState(path, state.root, state.size_bytes)

    async def send(self, streams: Sequence[trio.abc.Stream]) -> None:
        """QEMU's own migration and mirrors, through *streams*."""
        await self._vm.send(streams[0], disks=streams[1:])

    async def forget(self) -> None:
        """All that is in memory; disks stay until `QemuHypervisor.destroy`."""
        await self._vm.forget()

    async def ended(self) -> VmOutcome:
        """Until it has ended and its disks are written."""
        end = await self._vm.ended()
        if self.outcome is None:
            self.outcome = VmOutcome(end.reason, end.detail, self._disks.left(end), _marks(end))
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
        disks = _Disks(self._host.settings.state / order.ticket.ticket.vm_id.hex(), order)
        if order.incoming:  # its disks are where it runs; whatever is here is older
            await trio.to_thread.run_sync(disks.remove)
        description, images = _description(order.ticket.ticket), _images(order, disks)
        vm_key = bytes(order.keys.vm_key.buffer)
        secrets = VmSecrets(SecretBytes(vm_key), await _for_guest(order))
        running: QemuVm | None = None
        try:
            opened = open_vm(
                description,
                images,
                secrets,
                host=self._host,
                resume=_resumed(order),
                incoming=order.incoming[0] if order.incoming else None,
                incoming_disks=order.incoming[1:],
            )
            async with opened as vm:
                ImageKey.take(vm_key).wipe()  # the vTPM has what it needs; this copy is wiped where it is
                running = QemuVm(vm, disks, order)
                yield running
        finally:
            if running is not None:
                with trio.CancelScope(shield=True):
                    await running.ended()

    async def destroy(self, vm_id: bytes) -> None:
        """See `tccp.node.hypervisor.Hypervisor.destroy`."""
        await trio.to_thread.run_sync(_remove, self._host.settings.state / vm_id.hex())


class _Disks:
    """The live disks of one VM."""

    def __init__(self, folder: Path, order: VmOrder) -> None:
        self.folder, self._order = folder, order

    def all(self) -> tuple[VmDisk, ...]:
        """Each disk of the ticket over its image, with the root that it must have, and the mark that it has come by.

        Raises:
            DiskError: ``disk_roots``: the roots that stand here are not those that the coordinator knows;
                ``disk_marks``: it knows marks of more disks, or of less.
        """
        images = [image for image in self._order.images if image.role == "disk"]
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.folder}: {problem.strerror}") from None
        roots = self._roots(len(images))
        return tuple(
            VmDisk(_sealed_file(image), self.folder / f"disk{number}.live", root, mark)
            for number, (image, root, mark) in enumerate(zip(images, roots, self._marks(len(images)), strict=True))
        )

    def remove(self) -> None:
        """What an earlier stay of the VM here has left."""
        try:
            for path in (*self.folder.glob("disk*.live"), self._file):
                path.unlink(missing_ok=True)
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.folder}: {problem.strerror}") from None

    def left(self, end: VmEnd) -> bytes:
        """What the coordinator is to keep: see the head of this file."""
        roots = [root for root in end.disk_roots if root is not None]
        if not roots or len(roots) < len(end.disk_roots):
            return b""
        if len(roots) > 1:
            self._write_roots(b"".join(roots))
        return _one_root(roots)

    def _roots(self, count: int) -> Sequence[bytes | None]:
        demanded = self._order.keys.disk_root
        if demanded is None or count == 0:
            return [None] * count
        if count == 1:
            return [demanded]
        try:
            kept = self._file.read_bytes()
        except OSError as problem:
            raise DiskError("disk_roots", f"{self._file}: {problem.strerror}") from None
        roots = [kept[at : at + ROOT_BYTES] for at in range(0, len(kept), ROOT_BYTES)]
        if len(roots) != count or _one_root(roots) != demanded:
            raise DiskError("disk_roots", f"{self._file}: not the disks as they were left")
        return roots

    def _marks(self, count: int) -> Sequence[bytes | None]:
        marks = split_marks(self._order.keys.marks)
        if not marks:
            return [None] * count
        if len(marks) != count:
            raise DiskError("disk_marks", f"{len(marks)} are registered, and the ticket has {count} disks")
        return marks

    def _write_roots(self, roots: bytes) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(roots)
            file.flush()
            os.fsync(file.fileno())

    @property
    def _file(self) -> Path:
        return self.folder / "disk_roots"


def _clear_partial(state: Path) -> None:
    """Suspended states that a killed daemon has left unfinished: nothing can go on from them."""
    for path in state.glob(f"*/{STATE_NAME.format('*')}.partial"):
        path.unlink()


def remove_states(folder: Path) -> None:
    """Remove the suspended states in a VM's folder."""
    for path in folder.glob(STATE_NAME.format("*")):
        path.unlink(missing_ok=True)


def _resumed(order: VmOrder) -> ResumedState | None:
    if order.state is None:
        return None
    return ResumedState(order.state, order.keys.state_root, _state_key(order, order.keys.generation))


def _state_key(order: VmOrder, generation: int) -> ImageKey:
    vm_key = bytes(order.keys.vm_key.buffer)
    try:
        return state_key(SecretBytes(vm_key), generation)
    finally:
        ImageKey.take(vm_key).wipe()  # this copy is wiped where it is


def _remove(folder: Path) -> None:
    """Remove *folder* with all that is in it, and have that durable."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as problem:
        raise HostError("not_wiped", f"{folder}: {problem.strerror}") from None


def _marks(end: VmEnd) -> bytes:
    return b"".join(end.disk_marks) if all(end.disk_marks) else b""


def _one_root(roots: Sequence[bytes]) -> bytes:
    return roots[0] if len(roots) == 1 else hashlib.sha256(ROOTS_DOMAIN + b"".join(roots)).digest()


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


def _images(order: VmOrder, disks: _Disks) -> VmImages:
    one = {image.role: _sealed_file(image) for image in order.images}
    return VmImages(kernel=one.get("kernel"), initrd=one.get("initrd"), disks=disks.all())


def _sealed_file(image: OpenableImage) -> SealedFile:
    return SealedFile(image.path, image.key, image.sealed.info.root)


async def _for_guest(order: VmOrder) -> dict[str, SecretBytes]:
    """The plaintext of the ticket's data, through memory only."""
    data = next((image for image in order.images if image.role == "data"), None)
    if data is None:
        return {}
    if not 0 < data.sealed.info.size <= SECRET_BYTES_MAX:
        raise LaunchError("shape_unsupported", f"data of {data.sealed.info.size} bytes; 1 to {SECRET_BYTES_MAX} fit")
    with memory_file("data") as descriptor:
        await trio.to_thread.run_sync(open_image, data.sealed, descriptor, data.key)
        return {DATA_SECRET: SecretBytes(os.pread(descriptor, SECRET_BYTES_MAX, 0))}
