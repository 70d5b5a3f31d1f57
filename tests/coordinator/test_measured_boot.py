"""Hosts that are judged by what they booted: admitted, renewed, judged anew; and what they might try."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from tccp.attestation import boot_judge, boot_verdict
from tccp.attestation.boot_policy import BootPolicy
from tccp.attestation.event_log import ExplainedEventLog, replay_event_log
from tccp.attestation.signed_policy import sign_policy
from tccp.errors import RefusedError
from tccp.image.keys import read_operator_secret, write_operator_keys
from tccp.model import NodeName, PcrBank, PcrValues
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import HostLogRequest, RenewalChallenge, Renewed
from tests.support.boots import recorded
from tests.support.live_coordinator import ZERO, LiveCoordinator, live_coordinator, open_host
from tests.support.measured_host import MeasuredNode, boot_policy, measure_boot, put_in_force
from tests.support.soft_tpm import SoftTpm, SoftTpmPool

FIRMWARE = HostLogRequest("firmware", 0)
DIGEST = b"\xab" * 32


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    async with live_coordinator(tmp_path, coordinator_tpm) as running:
        yield running


@pytest.fixture
async def host(soft_tpms: SoftTpmPool) -> AsyncIterator[NodeTpm]:
    """A host that a test switches on."""
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as opened:
            yield opened


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, host: NodeTpm) -> MeasuredNode:
    """Enrolled, and judged by what the recorded boot without a boot loader measured."""
    await put_in_force(coordinator, boot_policy("direct"))
    await coordinator.enrol("alpha", host)
    return MeasuredNode(coordinator, "alpha", host)


async def answer(node: MeasuredNode) -> Renewed:
    """Answer a challenge that is under way."""
    await node.connection.send(await node.answer_renewal(await node.receive(RenewalChallenge)))
    return await node.receive(Renewed)


def refusal(coordinator: LiveCoordinator) -> str:
    return coordinator.services.sessions.refusals[NodeName("alpha")].detail


async def test_a_host_that_booted_what_the_policy_knows_renews_without_showing_its_log_again(
    alpha: MeasuredNode,
) -> None:
    await alpha.boot("direct")

    assert await alpha.is_admitted()
    await alpha.renew()
    await alpha.renew()
    assert alpha.asked_for == []


async def test_a_host_that_booted_something_else_is_refused_and_the_log_says_what_it_was(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    await alpha.boot("grub")

    assert (await alpha.is_refused()).endswith("_not_in_policy")
    assert "expected " in refusal(coordinator)
    assert "found " in refusal(coordinator)


async def booted_grub_shows_direct(alpha: MeasuredNode) -> None:
    await alpha.boot("grub")
    alpha.firmware_log, _ = recorded("direct")


async def test_the_log_of_a_good_boot_does_not_help_a_host_that_booted_another(alpha: MeasuredNode) -> None:
    await booted_grub_shows_direct(alpha)

    assert await alpha.is_refused() == "event_log_mismatch"


async def test_if_the_log_were_believed_the_good_one_would_help(
    alpha: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain_boot = boot_judge.explain_boot

    def believe(policy: BootPolicy, pcrs: PcrValues, event_log: bytes) -> ExplainedEventLog:
        log = replay_event_log(event_log, [policy.bank])
        claimed = {index: log.pcr(policy.bank, index) for index in pcrs.selection.indexes}
        return explain_boot(policy, PcrValues(pcrs.selection, claimed), event_log)

    monkeypatch.setattr(boot_judge, "explain_boot", believe)
    await booted_grub_shows_direct(alpha)

    assert await alpha.is_admitted()


async def test_a_host_without_a_log_is_refused(alpha: MeasuredNode) -> None:
    await alpha.boot("direct")
    alpha.firmware_log = b""

    assert await alpha.is_refused() in {"event_log_mismatch", "truncated", "malformed"}


async def changes_after_admission(alpha: MeasuredNode) -> None:
    await alpha.boot("direct")
    await alpha.register()
    await alpha.host.tpm.extend_pcr(9, PcrBank.SHA256, DIGEST)


async def test_a_boot_pcr_that_changes_after_the_admission_ends_the_lease(alpha: MeasuredNode) -> None:
    await changes_after_admission(alpha)

    assert await alpha.is_put_out() == "event_log_mismatch"
    assert alpha.asked_for == [FIRMWARE]


async def test_if_a_verdict_held_for_other_values_as_well_the_change_would_not_be_noticed(
    alpha: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_verdict, "boot_sha256", lambda _: bytes(32))
    await changes_after_admission(alpha)

    await alpha.renew()


async def test_a_new_version_of_the_policy_judges_the_boot_anew_by_its_log(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    await alpha.boot("direct")
    await alpha.register()
    await put_in_force(coordinator, boot_policy("direct", version=2))

    await answer(alpha)
    assert alpha.asked_for == [FIRMWARE]
    assert (await coordinator.leases())["alpha"].policy_version == 2
    await alpha.renew()
    assert alpha.asked_for == [FIRMWARE]


async def test_a_new_version_that_does_not_know_the_boot_puts_the_host_out(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    await alpha.boot("direct")
    await alpha.register()
    await put_in_force(coordinator, boot_policy("secure_boot", version=2))

    assert (await alpha.is_put_out()).endswith("_not_in_policy")


async def test_a_node_goes_from_one_kind_of_policy_to_the_other_and_back(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    await alpha.boot("direct")
    await alpha.register()
    await coordinator.add_policy({16 - 1: ZERO}, version=2)
    await answer(alpha)
    await put_in_force(coordinator, boot_policy("direct", version=3))
    await answer(alpha)

    assert (await coordinator.leases())["alpha"].policy_version == 3


async def test_what_a_policy_only_warns_of_is_shown_and_logged(
    coordinator: LiveCoordinator, host: NodeTpm, alpha: MeasuredNode
) -> None:
    await put_in_force(coordinator, boot_policy("direct", version=2, warn=True))
    alpha.firmware_log = await measure_boot(host.tpm, "unified")
    await alpha.register()

    node = await coordinator.ask(c.ShowNode("alpha"), c.NodeInfo)
    assert node.warnings
    assert all("expected " in warning for warning in node.warnings)
    body = (await coordinator.log())[alpha.admission.index].body
    assert node.warnings[0].encode() in body


async def test_where_operators_are_named_a_policy_needs_the_signature_of_one(
    coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    secret, public = write_operator_keys()
    operator, stranger = read_operator_secret(secret), SigningKey.generate()
    (tmp_path / "operator.pub").write_bytes(public)
    body = boot_policy("direct")
    keys = f'[policies]\noperator_keys = ["{tmp_path}/operator.pub"]'
    async with live_coordinator(tmp_path, coordinator_tpm, extra=keys) as coordinator:
        with pytest.raises(RefusedError, match="unsigned_policy"):
            await put_in_force(coordinator, body)
        with pytest.raises(RefusedError, match="unknown_key"):
            await put_in_force(coordinator, sign_policy(body, stranger))
        with pytest.raises(RefusedError, match="bad_signature"):
            await put_in_force(coordinator, sign_policy(body, operator) + b"#")
        added = await put_in_force(coordinator, sign_policy(body, operator))

        shown = await coordinator.ask(c.ShowPolicy(added.name, 0), c.PolicyInfo)
        assert shown.body == body
