"""A policy that is tried says whom it would refuse, and changes nothing for anybody."""

from collections.abc import AsyncIterator

import pytest
import trio

from tccp.coordinator import trials
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import RenewalChallenge, Renewed
from tccp.transport.connection import RefusalError
from tests.support.live_coordinator import POLICY, ZERO, HonestNode, LiveCoordinator, open_host
from tests.support.measured_host import MeasuredNode, boot_policy, put_in_force
from tests.support.soft_tpm import SoftTpmPool

OTHER = b"\xab" * 32


def pcr_policy(value: bytes, *, version: int = 7) -> bytes:
    return f'name = "{POLICY}"\nversion = {version}\n[pcrs]\n7 = "{value.hex()}"\n'.encode()


async def tried(coordinator: LiveCoordinator, body: bytes, *nodes: HonestNode) -> dict[str, c.TriedNode]:
    """Try a policy while *nodes* answer what they are asked, and are renewed in the end."""
    answers: list[c.PolicyTrial] = []

    async def ask() -> None:
        answers.append(await coordinator.ask(c.TryPolicy(body=body), c.PolicyTrial))

    async def answer(node: HonestNode) -> None:
        for _ in range(2):
            await node.connection.send(await node.answer_renewal(await node.receive(RenewalChallenge)))
        await node.receive(Renewed)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for node in nodes:
            nursery.start_soon(answer, node)
    return {verdict.node: verdict for verdict in answers[0].nodes}


async def test_whom_a_policy_would_refuse_is_shown_and_nobody_is_refused(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    before = await coordinator.leases()
    verdict = (await tried(coordinator, pcr_policy(OTHER), alpha))["alpha"]

    assert (verdict.verdict, verdict.reason) == ("refused", "pcr_not_in_policy")
    assert OTHER.hex() in verdict.detail
    after = await coordinator.leases()
    assert after["alpha"].lease_id == before["alpha"].lease_id
    assert after["alpha"].policy_version == 1
    assert [event.kind for event in await coordinator.log()].count("policy") == 1
    await alpha.renew()


async def test_whom_it_would_accept_is_shown_as_well(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()

    assert (await tried(coordinator, pcr_policy(ZERO), alpha))["alpha"].verdict == "accepted"


async def test_a_node_that_is_not_connected_is_named(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    assert (await tried(coordinator, pcr_policy(ZERO)))["alpha"].verdict == "not_connected"


async def test_a_node_that_does_not_answer_is_named(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "PATIENCE_S", 0.1)
    await alpha.register()

    assert (await tried(coordinator, pcr_policy(ZERO)))["alpha"].verdict == "no_answer"


async def test_a_trial_does_not_renew_the_lease_of_a_host_that_the_policy_in_force_refuses(
    coordinator: LiveCoordinator, tampered: MeasuredNode
) -> None:
    """What is tried may allow anything: a host that changed is out all the same."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(coordinator.ask, c.TryPolicy(body=pcr_policy(ZERO)), c.PolicyTrial)
        for _ in range(2):
            await tampered.connection.send(await tampered.answer_renewal(await tampered.receive(RenewalChallenge)))
        with pytest.raises(RefusalError, match="pcr_not_in_policy"):
            await tampered.receive(Renewed)
    assert await coordinator.leases() == {}


@pytest.fixture
async def own_host(soft_tpms: SoftTpmPool) -> AsyncIterator[NodeTpm]:
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as opened:
            yield opened


@pytest.fixture
async def tampered(coordinator: LiveCoordinator, own_host: NodeTpm) -> MeasuredNode:
    """A host that booted something after it was admitted."""
    await coordinator.enrol("alpha", own_host)
    node = MeasuredNode(coordinator, "alpha", own_host)
    await node.register()
    await node.boot("direct")
    return node


async def test_a_measured_boot_policy_is_tried_on_the_log_of_the_boot(
    coordinator: LiveCoordinator, own_host: NodeTpm
) -> None:
    await put_in_force(coordinator, boot_policy("direct", version=2))
    await coordinator.enrol("alpha", own_host)
    node = MeasuredNode(coordinator, "alpha", own_host)
    await node.boot("direct")
    await node.register()

    verdict = (await tried(coordinator, boot_policy("grub", version=3), node))["alpha"]
    assert verdict.verdict == "refused"
    assert verdict.reason.endswith("_not_in_policy")
    assert (await tried(coordinator, boot_policy("direct", version=3), node))["alpha"].verdict == "accepted"
