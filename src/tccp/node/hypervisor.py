"""What runs a VM, as the rest of the node sees it."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tccp.errors import HostError
from tccp.node.launch import VmOrder


class RunningVm(Protocol):
    """A VM that is there, paused until `run`."""

    @property
    def console(self) -> str:
        """Path of the Unix socket of its serial console."""

    @property
    def ek_certificate(self) -> bytes:
        """Of its vTPM, DER; empty when it has none."""

    async def run(self) -> None:
        """Let the guest run."""

    async def shut_down(self) -> None:
        """Ask the guest to shut down; returns at once."""

    async def kill(self) -> None:
        """Pull the plug."""

    async def ended(self) -> str:
        """Wait until it has ended; the reason in one word: ``shut_down``, ``crashed``, ``killed``."""


class Hypervisor(Protocol):
    """Starts VMs. Leaving the context ends the VM, whatever state it is in, and leaves nothing of it in memory."""

    def open(self, order: VmOrder) -> AbstractAsyncContextManager[RunningVm]:
        """The VM of *order*, paused.

        Raises:
            HostError: It cannot be started on this host.
            SealedImageError, DiskError: An image or the disk does not hold.
        """


class NoHypervisor:
    """A host that runs no VMs."""

    def open(self, order: VmOrder) -> AbstractAsyncContextManager[RunningVm]:
        """Refuse."""
        raise HostError("no_hypervisor", f"nothing here runs {order.ticket.ticket.vm_id.hex()}")
