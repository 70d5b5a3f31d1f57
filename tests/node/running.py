"""A VM that runs on a node, for tests of what becomes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tccp.model import NodeName
from tccp.protocol.ticket import SignedTicket
from tccp.store import EventRecord, VmRecord
from tccp.tenant.vm_file import VmFile
from tests.support.launching import SealedFile, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode

CONTENT = b"plaintext of a tenant, the canary"


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
    return await record_of_vm(coordinator, running.vm)


async def record_of_vm(coordinator: LiveCoordinator, vm: VmFile) -> VmRecord:
    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    return record


async def last_event(coordinator: LiveCoordinator, kind: str) -> EventRecord:
    with trio.fail_after(DEADLINE_S):
        await coordinator.until(kind)
    return [event for event in await coordinator.log() if event.kind == kind][-1]


def cut(coordinator: LiveCoordinator, node: str = "alpha") -> None:
    """Break the connection of a node."""
    session = coordinator.services.sessions.get(NodeName(node))
    assert session is not None
    session.scope.cancel()


def lose_next_answer(
    coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch, also: Callable[[], None] = lambda: None
) -> None:
    """The next thing that needs a receipt is recorded; then alpha's connection breaks, and it is told nothing.

    Args:
        also: What happens in the same moment.
    """
    receipt = coordinator.services.log.receipt

    async def cut_first(seq: int) -> bytes:
        monkeypatch.setattr(coordinator.services.log, "receipt", receipt)
        also()
        cut(coordinator)
        return await receipt(seq)

    monkeypatch.setattr(coordinator.services.log, "receipt", cut_first)
