"""A bug of ours that one peer brings out costs that peer its connection, and nobody else anything."""

from pathlib import Path

import pytest

from tccp.errors import HostError, PeerError
from tccp.node.registration import NodeTpm
from tccp.protocol.messages import RenewalChallenge
from tests.support.live_coordinator import HonestNode, LiveCoordinator
from tests.support.soft_tpm import SoftTpm
from tests.support.tenants import Tenant, policy_for


@pytest.fixture
async def beta(coordinator: LiveCoordinator, other_host: NodeTpm) -> HonestNode:
    """Another node, admitted."""
    await coordinator.enrol("beta", other_host)
    node = HonestNode(coordinator, "beta", other_host)
    await node.register()
    return node


def once(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Put a bug there, which comes out once."""

    def bug(*_arguments: object, **_others: object) -> object:
        monkeypatch.undo()
        raise KeyError("a bug")

    monkeypatch.setattr(where, bug)


@pytest.mark.parametrize(
    "where",
    [
        "tccp.coordinator.registration.challenge_ak",
        "tccp.coordinator.registration.grant_lease",
        "tccp.coordinator.verifier.verify_quotes",
    ],
)
async def test_in_a_registration(
    where: str, alpha: HonestNode, beta: HonestNode, bugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, where)

    with pytest.raises(HostError):
        await alpha.register()

    assert "a bug" in bugs.pop()
    await beta.renew()
    assert await HonestNode(alpha.coordinator, "alpha", alpha.host).is_admitted()


@pytest.mark.parametrize(
    "where",
    [
        "tccp.coordinator.renewals.fresh_nonce",
        "tccp.coordinator.renewals.Renewals.answer",
        "tccp.coordinator.renewals.verify_quotes",
        "tccp.coordinator.renewals.judge_known",
        "tccp.coordinator.renewals.renew_lease",
        "tccp.coordinator.renewals.Renewals._grant",
    ],
)
async def test_in_a_renewal(
    where: str, alpha: HonestNode, beta: HonestNode, bugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.register()
    once(monkeypatch, where)

    with pytest.raises(HostError):
        await alpha.renew()

    assert "a bug" in bugs.pop()
    await beta.renew()


async def test_when_a_node_is_put_out(
    coordinator: LiveCoordinator, alpha: HonestNode, beta: HonestNode, bugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.register()
    once(monkeypatch, "tccp.coordinator.renewals.refuse")
    alpha.lease_id = bytes(16)  # its quote covers another lease

    with pytest.raises(HostError):
        await alpha.renew()

    assert "a bug" in bugs.pop()
    assert list(await coordinator.leases()) == ["beta"]
    await beta.renew()


async def test_when_a_node_is_reminded_of_moves(
    alpha: HonestNode, beta: HonestNode, bugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, "tccp.coordinator.moving.Moves.remind")

    await alpha.register()
    with pytest.raises(HostError):
        await alpha.receive(RenewalChallenge)

    assert "a bug" in bugs.pop()
    await beta.renew()


async def test_in_an_answer_to_a_tenant(  # noqa: PLR0917
    coordinator: LiveCoordinator,
    coordinator_tpm: SoftTpm,
    beta: HonestNode,
    tmp_path: Path,
    bugs: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    once(monkeypatch, "tccp.coordinator.tenants.read_event_log")

    with pytest.raises((HostError, PeerError)):
        await tenant.add(coordinator.tenants_port)

    assert "a bug" in bugs.pop()
    await tenant.add(coordinator.tenants_port)
    await beta.renew()
