"""A VM that runs on a node, for tests of what becomes of it."""

from pathlib import Path

from tccp.protocol.ticket import SignedTicket
from tccp.store import VmRecord
from tccp.tenant.vm_file import VmFile
from tests.support.launching import SealedFile, ticket_file
from tests.support.live_coordinator import LiveCoordinator
from tests.support.live_node import LiveNode


class Running:
    """A VM that runs on alpha."""

    def __init__(self, alpha: LiveNode, disk: SealedFile, signed: SignedTicket, vm: VmFile) -> None:
        self.alpha, self.disk, self.signed, self.vm = alpha, disk, signed, vm
        self.ticket = ticket_file(signed)

    async def suspend(self) -> Path:
        """On alpha; the file."""
        info = await self.alpha.suspend(self.vm.vm_id)
        assert info.state == "suspended"
        return Path(info.saved)

    async def resume(self, node: LiveNode, state: Path) -> tuple[str, str, int]:
        """There: state, reason, epoch."""
        info = await node.resume(self.ticket, state, self.disk.path)
        return info.state, info.reason, info.epoch


async def record_of(coordinator: LiveCoordinator, running: Running) -> VmRecord:
    record = await coordinator.store.vm(running.vm.vm_id)
    assert record is not None
    return record
