"""Starting a virtual machine: from sealed images to a guest that waits for its first instruction.

    1   a user and a folder for it
    2   at the same time: disks are verified and served, the vTPM is certified, kernel and initrd are decrypted
    3   QEMU inherits all of that as descriptors, and is paused

Whatever happens - an error half-way, cancellation, the death of this process - all of it is killed and removed.
"""

import contextlib
import functools
import os
import shutil
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tccp.core.child import FIRST_DESCRIPTOR, ChildSpec
from tccp.errors import HostError, TccpError
from tccp.node.vm.alone import alone
from tccp.node.vm.arrival import Arrival, arrive_from_file, arrive_from_streams
from tccp.node.vm.certificates import VtpmKeys
from tccp.node.vm.child import Child, start
from tccp.node.vm.console import Console, console_socket
from tccp.node.vm.description import SealedFile, VmDescription, VmImages, VmSecrets
from tccp.node.vm.disk import DiskProcess, open_disk_process
from tccp.node.vm.host import VmHost
from tccp.node.vm.machine import TCG_BUFFER_MIB, Wiring, qemu_arguments
from tccp.node.vm.memory_file import memory_file, open_in_memory
from tccp.node.vm.qmp import Qmp, QmpEvent
from tccp.node.vm.sandbox import (
    FILES_MAX,
    QEMU_DATA,
    QEMU_DEVICES,
    QEMU_ENVIRONMENT,
    QEMU_FILES,
    TASKS_MAX,
    qemu_memory_mib,
)
from tccp.node.vm.state import ResumedState
from tccp.node.vm.streams import Streams
from tccp.node.vm.vm import Vm
from tccp.node.vm.vtpm import Vtpm, open_vtpm
from tccp.node.vm.vtpm_state import NOTHING, VtpmDemand

CONSOLE_NAME = "console.sock"
SET_UP_S = 60.0


@contextlib.asynccontextmanager
async def open_vm(
    description: VmDescription,
    images: VmImages,
    secrets: VmSecrets,
    *,
    host: VmHost,
    resume: ResumedState | None = None,
    incoming: Streams | None = None,
    vtpm: VtpmDemand = NOTHING,
    on_event: Callable[[QmpEvent], None] = lambda _event: None,
) -> AsyncGenerator[Vm]:
    """Start a VM, paused; at the end of the block it is killed unless it has ended. From the main thread.

    Args:
        resume: The state that it goes on from; by default it is switched on. Images and disks must be those that it
            had, and the disks must have the roots that suspending it left.
        incoming: Or what another node sends by `Vm.send`, at the other end of these. The disks must be new ones: they
            have no file, and no root is known.
        vtpm: What the state of its vTPM must be.
        on_event: Called with what QEMU says unasked.

    Raises:
        SealedImageError: An image, or the state, is not the one that its root names.
        DiskError: A live disk, or the state of the vTPM, is not what it was.
        HostError: Something of this host failed; nothing is left of the VM.
    """
    with host.user() as user, _run_folder(host.settings.run / description.name, host) as folder, alone():
        async with trio.open_nursery() as nursery:
            async with contextlib.AsyncExitStack() as stack:
                opening = _Opening(description, images, secrets, vtpm, host, user, nursery, stack)
                arrival = _arrival(resume, incoming, nursery, stack)
                vm = await opening.start(folder / CONSOLE_NAME, on_event, arrival)
                nursery.start_soon(vm.supervise)
                try:
                    yield vm
                finally:
                    if not vm.is_over:
                        with trio.CancelScope(shield=True):
                            await vm.kill()
            nursery.cancel_scope.cancel()


def _arrival(
    resume: ResumedState | None,
    incoming: Streams | None,
    nursery: trio.Nursery,
    stack: contextlib.AsyncExitStack,
) -> Arrival | None:
    assert resume is None or incoming is None
    if resume is not None:
        return arrive_from_file(resume, nursery, stack)
    return None if incoming is None else arrive_from_streams(incoming, nursery, stack)


@dataclass(frozen=True, slots=True)
class _Opening:
    """A VM that is being started."""

    description: VmDescription
    images: VmImages
    secrets: VmSecrets
    vtpm: VtpmDemand
    host: VmHost
    user: int | None
    nursery: trio.Nursery
    stack: contextlib.AsyncExitStack

    async def start(
        self, console_path: Path, on_event: Callable[[QmpEvent], None], arrival: Arrival | None = None
    ) -> Vm:
        """Everything, in order."""
        vtpm_keys = (await arrival.preamble(self.description)).vtpm if arrival else None
        with contextlib.ExitStack() as copies:  # plaintext in memory files
            with contextlib.ExitStack() as handed:  # sockets that QEMU inherits; our own copies go when it has them
                boot, vtpm, disks = await self._prepare(handed, copies, vtpm_keys)
                secrets = {
                    name: copies.enter_context(memory_file("secret", secret.value, reader=self.user))
                    for name, secret in self.secrets.for_guest.items()
                }
                monitor, monitor_end = self._pair(handed)
                guest, guest_end = self._pair(handed)
                wired = _Wires()
                wiring = Wiring(
                    qmp=wired.take(monitor_end),
                    console=wired.take(guest_end),
                    vtpm=wired.take(vtpm.control.fileno()),
                    kernel=wired.take(boot["kernel"]) if "kernel" in boot else None,
                    initrd=wired.take(boot["initrd"]) if "initrd" in boot else None,
                    disks=[wired.take(disk.nbd.fileno()) for disk in disks],
                    secrets={name: wired.take(descriptor) for name, descriptor in secrets.items()},
                )
                qemu = await start(
                    "qemu", self._qemu(wiring, wired.descriptors, arrival), self.nursery, self.host.keeper.guard
                )
            self.stack.push_async_callback(qemu.kill)
            qmp = Qmp(monitor, on_event)
            self.nursery.start_soon(qmp.run)
            await _first_word(qemu, qmp)
            # QEMU has copied these into what the guest is shown; only the initrd stays mapped.
            for descriptor in [*(boot[role] for role in boot if role == "kernel"), *secrets.values()]:
                os.ftruncate(descriptor, 0)
            if arrival is not None:
                await arrival.hand_over(qmp, vtpm, disks)
        console = Console(guest)
        self.nursery.start_soon(console.run)
        listener = await self.stack.enter_async_context(console_socket(console_path, self.host.console_group))
        self.nursery.start_soon(console.serve, listener)
        return Vm(self.description, console_path, qemu, qmp, console, vtpm, tuple(disks), self.host.keeper)

    async def _prepare(
        self, handed: contextlib.ExitStack, copies: contextlib.ExitStack, vtpm_keys: VtpmKeys | None
    ) -> tuple[dict[str, int], Vtpm, list[DiskProcess]]:
        """Images in memory, a vTPM and disks; all at the same time, for each takes a while."""
        disks = [
            await self.stack.enter_async_context(
                open_disk_process(disk, self.host, user=self.user, nursery=self.nursery)
            )
            for disk in self.images.disks
        ]
        for disk in disks:
            handed.callback(disk.nbd.close)
        vtpms: list[Vtpm] = []
        parts: list[Callable[[], Awaitable[None]]] = [
            lambda: self._open_vtpm(vtpms, vtpm_keys),
            *(disk.ready for disk in disks),
        ]
        boot: dict[str, int] = {}
        for role, file in (("kernel", self.images.kernel), ("initrd", self.images.initrd)):
            if file is not None:
                parts.append(functools.partial(self._decrypt, role, file, boot, copies))
        await _together(parts)
        handed.callback(vtpms[0].control.close)
        return boot, vtpms[0], disks

    async def _decrypt(self, role: str, file: SealedFile, boot: dict[str, int], copies: contextlib.ExitStack) -> None:
        boot[role] = await open_in_memory(file, role, reader=self.user)
        copies.callback(os.close, boot[role])

    async def _open_vtpm(self, opened: list[Vtpm], arriving: VtpmKeys | None) -> None:
        name, roots, key = self.description.name, self.images.roots, self.secrets.vm_key
        vtpm = open_vtpm(
            name, roots, key, self.host, user=self.user, nursery=self.nursery, arriving=arriving, demand=self.vtpm
        )
        opened.append(await self.stack.enter_async_context(vtpm))

    def _pair(self, handed: contextlib.ExitStack) -> tuple[socket.socket, int]:
        """Our end of a socket pair, and the descriptor of QEMU's."""
        mine, theirs = socket.socketpair()
        self.stack.callback(mine.close)
        handed.callback(theirs.close)
        return mine, theirs.fileno()

    def _qemu(self, wiring: Wiring, inherited: list[int], arrival: Arrival | None) -> ChildSpec:
        mapped_mib = qemu_memory_mib(self.description.memory_mib, self.description.vcpus)
        arguments = qemu_arguments(
            self.description,
            wiring,
            accelerator=self.host.accelerator,
            data_folders=QEMU_DATA,
            ovmf=self.host.settings.ovmf,
            lock_memory=self.host.can_lock(mapped_mib),
            awaits_state=arrival is not None,
        )
        return ChildSpec(
            self.host.qemu,
            [f"qemu-{self.description.name}", *arguments],
            output=-1,
            descriptors=inherited,
            environment=QEMU_ENVIRONMENT,
            user=self.user,
            extra_group=self.host.kvm_group if self.host.accelerator == "kvm" else None,
            # Translated code lies in a memory file; beside it QEMU writes no file at all.
            file_bytes_max=TCG_BUFFER_MIB << 20 if self.host.accelerator == "tcg" else 0,
            files_max=FILES_MAX,
            memory_bytes_max=mapped_mib << 20,
            tasks_max=TASKS_MAX + self.description.vcpus,
            readable=QEMU_FILES,
            writable=QEMU_DEVICES,
        )


class _Wires:
    """Descriptors of ours, and the numbers that they will have in a child."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def take(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return FIRST_DESCRIPTOR + len(self.descriptors) - 1


async def _first_word(qemu: Child, qmp: Qmp) -> None:
    """Until QEMU has set up the machine.

    Raises:
        HostError: ``qemu_failed``, with its words.
    """
    try:
        with trio.fail_after(SET_UP_S):
            await qmp.negotiate()
    except (HostError, trio.TooSlowError) as problem:
        await qemu.kill()
        raise HostError("qemu_failed", qemu.said[-600:] or str(problem)) from problem


@contextmanager
def _run_folder(folder: Path, host: VmHost) -> Iterator[Path]:
    """A folder for the socket of the console, which goes with the block."""
    try:
        folder.mkdir(mode=0o700)
        if host.console_group is not None:
            os.chown(folder, -1, host.console_group)
            folder.chmod(0o710)
    except FileExistsError:
        raise HostError("vm_runs_already", folder.name) from None
    except OSError as error:
        raise HostError("cannot_start", f"{folder}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def _together(parts: list[Callable[[], Awaitable[None]]]) -> None:
    """All *parts* at the same time; the first error ends the others."""
    problems: list[TccpError] = []

    async def one(part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except TccpError as problem:
            problems.append(problem)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for part in parts:
            nursery.start_soon(one, part)
    if problems:
        raise problems[0]
