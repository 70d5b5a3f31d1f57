"""What runs a VM, as the rest of the node sees it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tccp.errors import HostError
from tccp.node.launch import VmOrder
from tccp.node.vm.streams import Streams
from tccp.protocol.ticket import Ticket
from tccp.protocol.transfer import TransferProgress, TransferSent


@dataclass(frozen=True, slots=True)
class VmOutcome:
    """How a VM ended.

    Attributes:
        reason: One word: ``powered_off``, ``shut_down``, ``killed``, ``qemu_failed`` ...
        disk_root: What its disks must be at the next start, 32 bytes; empty when it has none, or nobody can say.
        marks: How far its disks had come for certain (`tccp.protocol.marks`); empty when nobody knows.
    """

    reason: str
    detail: str = ""
    disk_root: bytes = b""
    marks: bytes = b""


@dataclass(frozen=True, slots=True)
class SavedState:
    """A suspended VM in a file.

    Attributes:
        root: Names this state and no other, 32 bytes.
        problem: Why there are no copies of its disks beside it, where its ticket wants some: once the VM has run again,
            there is no way back to it. Else empty.
    """

    path: Path
    root: bytes
    size_bytes: int
    problem: str = ""


class RunningVm(Protocol):
    """A VM that is there, paused until `run`."""

    @property
    def console(self) -> str:
        """Path of the Unix socket of its serial console."""

    @property
    def ek_certificate(self) -> bytes:
        """Of its vTPM, DER; empty when it has none."""

    @property
    def outcome(self) -> VmOutcome | None:
        """How it ended; None before that."""

    @property
    def has_run(self) -> bool:
        """Whether the guest may have run; if not, all is as it was before."""

    async def run(self) -> None:
        """Let the guest run.

        Raises:
            HostError: It cannot; `has_run` says whether it may have, all the same.
        """

    async def shut_down(self) -> None:
        """Ask the guest to shut down, and wait; at last pull the plug."""

    async def kill(self) -> None:
        """Pull the plug."""

    async def marks(self) -> bytes:
        """How far its disks have come (`tccp.protocol.marks`); empty when it has none.

        Raises:
            HostError: It has ended, or is about to.
            DiskError: A disk cannot say, with no room to write for example; it goes on.
        """

    async def keep(self, marks: bytes) -> None:
        """Have its disks remember *marks*, which are on record now.

        Raises:
            HostError: It has ended, or is about to.
            DiskError: A disk does not know them.
        """

    async def suspend(self) -> SavedState:
        """Let it stand still, write all of it to a file under a key of this epoch, and end it.

        Raises:
            HostError: It could not be written; the guest runs on, unless `ended` says otherwise.
        """

    async def send(self, streams: Streams, on_progress: Callable[[TransferProgress], None]) -> TransferSent:
        """Send it while it runs. It stands still then, and all of it is there as well.

        `run` lets it go on here, as long as nobody else was told that it was forgotten.

        Raises:
            HostError: It could not be sent, and runs on, unless `ended` says otherwise.
        """

    async def forget(self) -> None:
        """End it, and wipe all that is in memory of it; another node has it."""

    async def ended(self) -> VmOutcome:
        """Wait until it has ended."""


class Hypervisor(Protocol):
    """Starts VMs. Leaving the context ends the VM, whatever state it is in, and leaves nothing of it in memory."""

    def check(self, ticket: Ticket) -> None:
        """Whether such a machine can be had here; asked before the keys are, which use the ticket up.

        Raises:
            LaunchError: ``shape_unsupported``.
            HostError: ``no_hypervisor``.
        """

    async def allow_until(self, deadline: float) -> None:
        """Until when (CLOCK_BOOTTIME, in seconds) VMs may run. They are killed then, even if this daemon hangs.

        Raises:
            HostError: ``no_keeper``: nobody is there who would do it, and nothing runs.
        """

    def open(self, order: VmOrder) -> AbstractAsyncContextManager[RunningVm]:
        """The VM of *order*, paused, at its start or where its suspended state leaves it. Its ticket was checked.

        Raises:
            LaunchError: ``shape_unsupported``: of the data that was sealed.
            HostError: It cannot be started on this host.
            SealedImageError, DiskError: An image, the disk or the suspended state does not hold.
        """

    async def destroy(self, vm_id: bytes) -> None:
        """Remove every file that there is of a VM which has ended: disks, suspended states, the state of its vTPM.

        Raises:
            HostError: Something is left.
        """

    async def discard(self, vm_id: bytes) -> bool:
        """Remove what has come of a VM that went on elsewhere: live disks and the state of the vTPM. States that were
        kept here stay, and what belongs to them; whether there is any.

        Raises:
            HostError: Something else is left.
        """


class NoHypervisor:
    """A host that runs no VMs."""

    def check(self, ticket: Ticket) -> None:
        """Refuse."""
        detail = f"nothing here runs {ticket.vm_id.hex()}"
        raise HostError("no_hypervisor", detail, hint="[vms] in node.toml says where VMs live")

    async def allow_until(self, deadline: float) -> None:
        """Nothing runs."""

    def open(self, order: VmOrder) -> AbstractAsyncContextManager[RunningVm]:
        """Refuse."""
        raise AssertionError(f"checked before: {order.ticket.sha256.hex()}")

    async def destroy(self, vm_id: bytes) -> None:
        """There is nothing."""

    async def discard(self, vm_id: bytes) -> bool:  # noqa: ARG002 - the protocol names it
        """There is nothing."""
        return False
