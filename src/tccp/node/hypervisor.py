"""What runs a VM, as the rest of the node sees it."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from tccp.errors import HostError
from tccp.node.launch import VmOrder
from tccp.protocol.ticket import Ticket


@dataclass(frozen=True, slots=True)
class VmOutcome:
    """How a VM ended.

    Attributes:
        reason: One word: ``powered_off``, ``shut_down``, ``killed``, ``qemu_failed`` ...
        disk_root: What its disks must be at the next start, 32 bytes; empty when it has none, or nobody can say.
    """

    reason: str
    detail: str = ""
    disk_root: bytes = b""


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

    async def run(self) -> None:
        """Let the guest run."""

    async def shut_down(self) -> None:
        """Ask the guest to shut down, and wait; at last pull the plug."""

    async def kill(self) -> None:
        """Pull the plug."""

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

    def open(self, order: VmOrder) -> AbstractAsyncContextManager[RunningVm]:
        """The VM of *order*, paused. Its ticket was checked.

        Raises:
            LaunchError: ``shape_unsupported``: of the data that was sealed.
            HostError: It cannot be started on this host.
            SealedImageError, DiskError: An image or the disk does not hold.
        """


class NoHypervisor:
    """A host that runs no VMs."""

    def check(self, ticket: Ticket) -> None:
        """Refuse."""
        detail = f"nothing here runs {ticket.vm_id.hex()}"
        raise HostError("no_hypervisor", detail, hint="[vms] in node.toml says where VMs live")

    def open(self, order: VmOrder) -> AbstractAsyncContextManager[RunningVm]:
        """Refuse."""
        raise AssertionError(f"checked before: {order.ticket.sha256.hex()}")
