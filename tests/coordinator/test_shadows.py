"""A version in the shadow judges every quote beside the one in force, and nobody's lease depends on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tccp.attestation.boot_policy import AnyPolicy
from tccp.attestation.policy import TrustedPlatform, judged_platform
from tccp.attestation.quote import VerifiedQuote
from tccp.attestation.signed_policy import sign_policy
from tccp.coordinator import renewals, shadows
from tccp.coordinator.examination import KnownBoot
from tccp.errors import RefusedError, TccpError
from tccp.image.keys import read_operator_secret, write_operator_keys
from tccp.model import PcrBank
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol import shadow_control as s
from tccp.protocol.messages import HostLogRequest, RenewalChallenge, Renewed
from tccp.store import PolicyRecord, Store
from tccp.transport.connection import RefusalError
from tests.support.ima_lists import ng, written
from tests.support.live_coordinator import POLICY, ZERO, HonestNode, LiveCoordinator, live_coordinator, open_host
from tests.support.measured_host import BOOTED, DAEMON, EVIL, MeasuredNode, boot_policy, ima_policy, put_in_force
from tests.support.monitoring import page
from tests.support.soft_tpm import SoftTpm, SoftTpmPool

OTHER = b"\xab" * 32


def pcr_policy(value: bytes, *, version: int = 7, bank: str = "sha256") -> bytes:
    return f'name = "{POLICY}"\nversion = {version}\nbank = "{bank}"\n[pcrs]\n7 = "{value.hex()}"\n'.encode()


async def put_beside(coordinator: LiveCoordinator, body: bytes) -> s.ShadowInfo:
    return await coordinator.ask(s.AddShadow(body=body), s.ShadowInfo)


async def report(coordinator: LiveCoordinator) -> s.ShadowReport:
    return await coordinator.ask(s.ReportShadow(name=POLICY), s.ShadowReport)


async def verdict(coordinator: LiveCoordinator, node: str = "alpha") -> s.ShadowedNode:
    return {each.node: each for each in (await report(coordinator)).nodes}[node]


async def answer(node: HonestNode) -> Renewed:
    """Answer a challenge that is under way."""
    await node.connection.send(await node.answer_renewal(await node.receive(RenewalChallenge)))
    return await node.receive(Renewed)


# ---- what it says, and that it decides nothing ----


async def test_whom_it_would_refuse_is_shown_with_the_reason_and_renews_as_before(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    info = await put_beside(coordinator, pcr_policy(OTHER))
    assert (info.version, info.in_force) == (7, 1)

    await answer(alpha)  # all that are connected are asked at once
    said = await verdict(coordinator)
    assert (said.verdict, said.now, said.reason) == ("refused", "admitted", "pcr_not_in_policy")
    assert OTHER.hex() in said.detail
    assert (await coordinator.leases())["alpha"].policy_version == 1
    await alpha.renew()


async def test_a_registration_is_judged_by_it_too(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await put_beside(coordinator, pcr_policy(OTHER))
    assert (await verdict(coordinator)).verdict == "waiting"

    assert await alpha.is_admitted()
    assert (await verdict(coordinator)).verdict == "refused"


async def test_whom_the_version_in_force_refuses_may_be_accepted_by_it(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await coordinator.add_policy({7: OTHER}, version=2)
    await put_beside(coordinator, pcr_policy(ZERO))

    assert await alpha.is_refused() == "pcr_not_in_policy"
    said = await verdict(coordinator)
    assert (said.verdict, said.now) == ("accepted", "refused")


async def test_one_quote_shows_both_what_they_want_and_each_sees_its_own_part(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await put_beside(coordinator, pcr_policy(ZERO))
    challenge = await alpha.get_challenge()

    assert challenge.pcr_indexes == (0, 4, 7)


async def test_a_quote_of_another_bank_cannot_be_shared(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    with pytest.raises(TccpError, match="other_bank"):
        await put_beside(coordinator, pcr_policy(b"\xab" * 48, bank="sha384"))
    await put_beside(coordinator, pcr_policy(ZERO))
    await coordinator.add_policy({0: bytes(48)}, version=2, bank="sha384")

    assert (await verdict(coordinator)).verdict == "other_bank"


async def test_a_report_names_nodes_that_it_would_refuse_first_and_revoked_ones_not_at_all(
    coordinator: LiveCoordinator, alpha: HonestNode, other_host: NodeTpm
) -> None:
    await put_beside(coordinator, pcr_policy(OTHER))
    await coordinator.enrol("aaa", other_host)
    await alpha.register()

    assert [node.node for node in (await report(coordinator)).nodes] == ["alpha", "aaa"]
    await coordinator.ask(c.RevokeNode(name="aaa", reason="sold"), c.NodeInfo)
    assert [node.node for node in (await report(coordinator)).nodes] == ["alpha"]


# ---- attacks, and each without its defence ----


async def boots_another_loader(coordinator: LiveCoordinator, node: MeasuredNode) -> None:
    """The version in the shadow does not look at PCR 4; that in force does."""
    await node.register()
    await put_beside(coordinator, pcr_policy(ZERO))
    await answer(node)
    assert (await verdict(coordinator)).verdict == "accepted"
    await node.host.tpm.extend_pcr(4, PcrBank.SHA256, OTHER)


async def test_what_a_shadow_accepts_does_not_help_a_host_that_the_version_in_force_refuses(
    coordinator: LiveCoordinator, own_node: MeasuredNode
) -> None:
    await boots_another_loader(coordinator, own_node)

    assert await own_node.is_put_out() == "pcr_not_in_policy"


async def test_if_the_version_in_force_were_not_asked_the_host_would_go_on(
    coordinator: LiveCoordinator, own_node: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(policy: AnyPolicy, quote: VerifiedQuote, _: KnownBoot) -> TrustedPlatform:
        return judged_platform(quote, policy.name, policy.version)

    monkeypatch.setattr(renewals, "judge_known", believe)
    await boots_another_loader(coordinator, own_node)

    await own_node.renew()


async def test_a_policy_in_the_shadow_needs_the_signature_that_one_in_force_needs(
    coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    secret, public = write_operator_keys()
    (tmp_path / "operator.pub").write_bytes(public)
    keys = f'[policies]\noperator_keys = ["{tmp_path}/operator.pub"]'
    async with live_coordinator(tmp_path, coordinator_tpm, extra=keys) as coordinator:
        await put_in_force(coordinator, sign_policy(pcr_policy(ZERO, version=1), read_operator_secret(secret)))
        with pytest.raises(RefusedError, match="unsigned_policy"):
            await put_beside(coordinator, pcr_policy(ZERO))
        assert await coordinator.store.shadows() == []


# ---- logs of the host ----


@pytest.fixture
async def own_node(coordinator: LiveCoordinator, soft_tpms: SoftTpmPool) -> AsyncIterator[MeasuredNode]:
    """A host whose TPM may be extended, judged by PCR values, without IMA's list."""
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await coordinator.enrol("alpha", host)
            yield MeasuredNode(coordinator, "alpha", host)


@pytest.fixture
async def ima_coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """Beside, a folder of compiled policies; no policy yet."""
    (tmp_path / "ima").mkdir()
    async with live_coordinator(tmp_path, coordinator_tpm, extra=f'[ima]\npolicies = "{tmp_path}/ima"') as running:
        yield running


@pytest.fixture
async def measured(
    ima_coordinator: LiveCoordinator, soft_tpms: SoftTpmPool, tmp_path: Path
) -> AsyncIterator[MeasuredNode]:
    """Booted as the policy in force wants, with IMA on, and admitted."""
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await put_in_force(ima_coordinator, boot_policy(ima=ima_policy(tmp_path / "ima")))
            await ima_coordinator.enrol("alpha", host)
            node = MeasuredNode(ima_coordinator, "alpha", host)
            await node.boot("direct", BOOTED)
            await node.register()
            node.asked_for.clear()
            yield node


def asked(name: str, offset: int = 0) -> HostLogRequest:
    return HostLogRequest(name, offset)  # type: ignore[arg-type]


async def test_a_measured_boot_version_sees_the_log_once_for_a_boot(
    ima_coordinator: LiveCoordinator, measured: MeasuredNode, tmp_path: Path
) -> None:
    await put_beside(ima_coordinator, boot_policy("grub", version=2, ima=ima_policy(tmp_path / "ima")))
    await answer(measured)
    said = await verdict(ima_coordinator)
    assert said.verdict == "refused"
    assert said.reason.endswith("_not_in_policy")
    assert measured.asked_for == [asked("firmware")]


async def test_measurements_that_the_same_ima_policy_accepted_are_not_asked_for_twice(
    ima_coordinator: LiveCoordinator, measured: MeasuredNode, tmp_path: Path
) -> None:
    await put_beside(ima_coordinator, boot_policy(version=2, ima=ima_policy(tmp_path / "ima")))
    await answer(measured)
    await measured.run(DAEMON)
    await measured.renew()

    assert measured.asked_for == [asked("firmware"), asked("ima", len(written(BOOTED)))]
    assert (await verdict(ima_coordinator)).verdict == "accepted"


async def test_another_ima_policy_sees_the_whole_list_once_and_then_what_is_new(
    ima_coordinator: LiveCoordinator, measured: MeasuredNode, tmp_path: Path
) -> None:
    other = ima_policy(tmp_path / "ima", ng(b"more", b"/usr/bin/more"))
    await put_beside(ima_coordinator, boot_policy(version=2, ima=other))
    await answer(measured)
    await measured.run(DAEMON)
    await measured.renew()

    grown = asked("ima", len(written(BOOTED)))
    assert measured.asked_for == [asked("ima"), asked("firmware"), grown, grown]
    assert (await verdict(ima_coordinator)).verdict == "accepted"


async def test_a_program_that_only_it_forbids_is_told_and_runs_on(
    ima_coordinator: LiveCoordinator, measured: MeasuredNode, tmp_path: Path
) -> None:
    await put_in_force(ima_coordinator, boot_policy(version=2, ima=ima_policy(tmp_path / "ima", EVIL)))
    await answer(measured)
    await put_beside(ima_coordinator, boot_policy(version=3, ima=ima_policy(tmp_path / "ima")))
    await answer(measured)
    assert (await verdict(ima_coordinator)).verdict == "accepted"
    await measured.run(EVIL)
    await measured.renew()

    said = await verdict(ima_coordinator)
    assert (said.verdict, said.now, said.reason) == ("refused", "admitted", "ima_entry_refused")
    assert "/usr/bin/sh" in said.detail


async def test_a_host_that_does_not_show_it_a_log_is_not_asked_again_and_keeps_its_place(
    coordinator: LiveCoordinator, own_node: MeasuredNode
) -> None:
    """It stands for one whose log cannot be read: its node's daemon ends the connection, and comes back."""
    await own_node.register()
    await put_beside(coordinator, boot_policy(version=2))
    await own_node.connection.send(await own_node.answer_renewal(await own_node.receive(RenewalChallenge)))
    with trio.fail_after(20):
        assert await own_node.connection.receive_any() == asked("firmware")
    own_node.leave()

    back = MeasuredNode(coordinator, "alpha", own_node.host)
    await back.register()  # where it is judged by what every registration shows
    assert (await verdict(coordinator)).verdict == "refused"
    await back.renew()
    assert back.asked_for == []


@pytest.mark.parametrize("bound", ["PATIENCE_S", "PATIENCE_OF_LEASE"])
async def test_a_list_without_end_holds_nobody_up(
    ima_coordinator: LiveCoordinator,
    measured: MeasuredNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
) -> None:
    monkeypatch.setattr(shadows, bound, -1.0)
    other = ima_policy(tmp_path / "ima", ng(b"more", b"/usr/bin/more"))
    await put_beside(ima_coordinator, boot_policy(version=2, ima=other))

    await answer(measured)
    assert (await verdict(ima_coordinator)).reason == "shadow_log_too_long"


# ---- its end ----


async def test_it_judges_on_after_a_restart(coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm) as before:
        await before.add_policy({0: ZERO})
        await before.enrol("alpha", host)
        await put_beside(before, pcr_policy(OTHER))
    async with live_coordinator(tmp_path, coordinator_tpm) as after:
        assert (await verdict(after)).verdict == "waiting"
        assert await HonestNode(after, "alpha", host).is_admitted()
        assert (await verdict(after)).verdict == "refused"


async def test_promoted_it_is_in_force_at_once_and_no_log_is_shown_again(
    ima_coordinator: LiveCoordinator, measured: MeasuredNode, tmp_path: Path
) -> None:
    info = await put_beside(ima_coordinator, boot_policy(version=2, ima=ima_policy(tmp_path / "ima")))
    await answer(measured)
    measured.asked_for.clear()

    await ima_coordinator.ask(s.PromoteShadow(POLICY, info.sha256), s.ShadowInfo)
    await answer(measured)
    assert measured.asked_for == []
    assert (await ima_coordinator.leases())["alpha"].policy_version == 2
    assert (await ima_coordinator.ask(s.ListShadows(), s.Shadows)).shadows == ()


async def test_promoted_it_puts_out_whom_it_said_it_would(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()
    info = await put_beside(coordinator, pcr_policy(OTHER))
    await answer(alpha)
    await coordinator.ask(s.PromoteShadow(POLICY, info.sha256), s.ShadowInfo)

    with pytest.raises(RefusalError, match="pcr_not_in_policy"):
        await answer(alpha)
    assert await coordinator.leases() == {}


async def test_another_version_than_was_meant_is_not_promoted(coordinator: LiveCoordinator) -> None:
    info = await put_beside(coordinator, pcr_policy(OTHER))
    await put_beside(coordinator, pcr_policy(ZERO))

    with pytest.raises(RefusedError, match="shadow_changed"):
        await coordinator.ask(s.PromoteShadow(POLICY, info.sha256), s.ShadowInfo)
    assert coordinator.services.policies.get(POLICY).version == 1


async def test_of_two_that_are_put_there_at_once_the_record_and_the_coordinator_have_the_same(
    coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_shadow = type(coordinator.store).set_shadow

    async def set_it_and_be_late(store: Store, record: PolicyRecord) -> int:
        seq = await set_shadow(store, record)
        if record.version == 7:
            nursery.start_soon(put_beside, coordinator, pcr_policy(OTHER, version=8))
            with trio.move_on_after(0.1):
                while coordinator.services.shadows.get(POLICY) is None:
                    await trio.lowlevel.checkpoint()
        return seq

    async with trio.open_nursery() as nursery:
        monkeypatch.setattr(type(coordinator.store), "set_shadow", set_it_and_be_late)
        await put_beside(coordinator, pcr_policy(OTHER))
    there = coordinator.services.shadows.get(POLICY)
    assert there is not None
    assert [record.version for record in await coordinator.store.shadows()] == [there.policy.version] == [8]


async def test_dropped_it_says_no_more(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await put_beside(coordinator, pcr_policy(OTHER))
    await coordinator.ask(s.DropShadow(POLICY), s.ShadowInfo)

    with pytest.raises(RefusedError, match="no_shadow"):
        await report(coordinator)
    assert (await alpha.get_challenge()).pcr_indexes == (0, 4)


async def test_a_version_that_is_put_in_force_past_it_ends_it(coordinator: LiveCoordinator) -> None:
    await put_beside(coordinator, pcr_policy(ZERO, version=2))
    await coordinator.add_policy({0: ZERO}, version=2)

    assert (await coordinator.ask(s.ListShadows(), s.Shadows)).shadows == ()


async def test_what_it_says_is_counted_for_the_status_and_for_prometheus(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm, extra="[metrics]\nport = 0\n") as coordinator:
        await coordinator.add_policy({0: ZERO})
        await coordinator.enrol("alpha", host)
        await put_beside(coordinator, pcr_policy(OTHER))
        alpha = HonestNode(coordinator, "alpha", host)
        await alpha.register()
        await alpha.renew()

        (shown,) = (await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)).shadows
        assert (shown.accepted, shown.refused, shown.reasons) == (0, 1, {"pcr_not_in_policy": 1})
        seen = await page(coordinator.services.metrics_listening, "/metrics")
        assert seen.number("tccp_shadow_refused", policy=POLICY) == 1
        assert seen.number("tccp_shadow_accepted", policy=POLICY) == 0
