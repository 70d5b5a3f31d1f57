"""A VM whose source has wiped it: the word waits for a destination that may still come, and for no other."""

import os

import pytest
import trio

from tccp.coordinator import launch, moving
from tccp.model import NodeName
from tccp.node.destruction import wiped_here
from tccp.protocol import control as c
from tccp.protocol.messages import (
    MoveArrived,
    MoveGo,
    MoveOrder,
    MovePrepared,
    MoveRequest,
    MoveWiped,
    VmMarked,
    VmMarksRecorded,
    VmReportRecorded,
    VmReportRefused,
)
from tests.coordinator.launch.support import accept_evidence_of
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import LiveCoordinator

MARK = (1).to_bytes(8, "little") + b"m" * 32
SOON_S, LONG_S = 0.0, 600.0


@pytest.fixture
async def wiped(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> MoveWiped:
    """What alpha will say of a VM that moves to beta."""
    accept_evidence_of(coordinator, 60)
    signed, _ = tenant.ticket([disk])
    await alpha.keys(signed)
    await beta.connection.send(MoveRequest(signed.ticket, signed.signature, os.urandom(32), "there:1"))
    await beta.receive(MovePrepared)
    order = await alpha.receive(MoveOrder)
    return wiped_here(alpha.identity, order.vm_id, order.epoch, order.move_id)


async def is_at_work_on(node: AskingNode, said: MoveWiped) -> None:
    """The coordinator has heard it, and whatever is answered at once would have been answered."""
    await node.connection.send(said)
    await node.connection.send(VmMarked(said.vm_id, 1, MARK))
    await node.receive(VmMarksRecorded)


async def go_away(coordinator: LiveCoordinator, node: AskingNode) -> None:
    node.leave()
    while coordinator.services.sessions.get(NodeName(node.identity.name)) is not None:
        await trio.lowlevel.checkpoint()


async def test_a_destination_that_was_away_gets_the_vm_when_it_is_back(
    coordinator: LiveCoordinator,
    alpha: AskingNode,
    beta: AskingNode,
    wiped: MoveWiped,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after an outage of the coordinator: nobody comes back at the same moment."""
    monkeypatch.setattr(moving, "ARRIVED_S", SOON_S)
    await go_away(coordinator, beta)
    await is_at_work_on(alpha, wiped)
    monkeypatch.setattr(moving, "ARRIVED_S", LONG_S)

    await beta.register()
    await beta.connection.send(MoveArrived(wiped.vm_id, 2, wiped.move_id, MARK))

    assert (await beta.receive(MoveGo)).epoch == 2
    assert (await alpha.receive(VmReportRecorded)).report == "move_wiped"
    await alpha.connection.send(wiped)  # as if that had been lost
    await alpha.receive(VmReportRecorded)


async def test_a_destination_that_is_there_and_has_nothing_gets_nothing(
    alpha: AskingNode, wiped: MoveWiped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "ARRIVED_S", SOON_S)

    await alpha.connection.send(wiped)

    assert (await alpha.receive(VmReportRefused)).reason == "destination_lost"


async def test_nobody_waits_for_a_destination_that_was_put_out(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, wiped: MoveWiped
) -> None:
    await go_away(coordinator, beta)
    await coordinator.ask(c.RevokeNode(name="beta", reason="sold"), c.NodeInfo)

    await alpha.connection.send(wiped)

    assert (await alpha.receive(VmReportRefused)).reason == "destination_lost"


async def test_who_waits_for_a_source_is_heard_about_other_vms(
    beta: AskingNode, wiped: MoveWiped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "REQUESTS_MAX", 1)
    await beta.connection.send(MoveArrived(wiped.vm_id, 2, wiped.move_id, MARK))

    await beta.connection.send(VmMarked(bytes(16), 1, MARK))

    assert (await beta.receive(VmReportRefused)).reason == "vm_unknown"


async def test_what_a_destination_says_again_while_it_waits_is_answered_once(
    alpha: AskingNode, beta: AskingNode, wiped: MoveWiped
) -> None:
    """It says so every minute, and a source that is away may be away for long."""
    for _ in range(40):
        await beta.connection.send(MoveArrived(wiped.vm_id, 2, wiped.move_id, MARK))

    await alpha.connection.send(wiped)

    await beta.receive(MoveGo)
    await beta.connection.send(VmMarked(wiped.vm_id, 2, MARK))
    await beta.receive(VmMarksRecorded)  # and nothing before it
