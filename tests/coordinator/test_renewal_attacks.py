"""Admitted hosts that lie, change or reboot while their lease holds. Each is out, unless its defence is left out."""

from collections.abc import AsyncIterator

import pytest

from tccp.errors import ProtocolError, RefusedError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.node.registration import NodeTpm
from tccp.protocol import binding
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame
from tccp.protocol.messages import RenewalChallenge, RenewalEvidence, Renewed
from tccp.tpm import Quote
from tccp.transport.connection import RefusalError
from tccp.transport.errors import PeerGoneError
from tests.coordinator.test_quote_attacks import ASKED, EVIL, sha256
from tests.support import weakened
from tests.support.live_coordinator import ZERO, HonestNode, LiveCoordinator, open_host
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.weakened import Weaken


class OffersItsRegistration(HonestNode):
    """A quote over the right nonce, on the right channel, but for another verb."""

    def renewal_bound_to(self, challenge: RenewalChallenge) -> bytes:
        return binding.registration(challenge.nonce, self.channel, self.identity.statement)


class ReplaysItsLastRenewal(HonestNode):
    """Shows the quote of the renewal before."""

    last: RenewalEvidence | None = None

    async def answer_renewal(self, challenge: RenewalChallenge) -> RenewalEvidence:
        evidence = self.last or await super().answer_renewal(challenge)
        self.last = evidence
        return evidence

    async def renew(self) -> Renewed:
        await super().renew()
        return await super().renew()


class RenewsAnotherLease(HonestNode):
    """A quote for a lease that it does not hold."""

    def renewal_bound_to(self, challenge: RenewalChallenge) -> bytes:
        return binding.renewal(challenge.nonce, self.channel, bytes(16), self.identity.statement)


class RenewsWithOtherKeys(HonestNode):
    """A quote that covers other boot-time keys than it was admitted with."""

    def renewal_bound_to(self, challenge: RenewalChallenge) -> bytes:
        return binding.renewal(challenge.nonce, self.channel, self.lease_id, b"another statement")


BINDING_ATTACKS = [OffersItsRegistration, ReplaysItsLastRenewal, RenewsAnotherLease, RenewsWithOtherKeys]


@pytest.mark.parametrize("attack", BINDING_ATTACKS)
async def test_a_quote_for_something_else_ends_the_lease(
    attack: type[HonestNode], coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    await coordinator.enrol("alpha", host)
    node = attack(coordinator, "alpha", host)
    await node.register()

    assert await node.is_put_out() == "nonce_mismatch"
    assert await coordinator.last_end("alpha") == "nonce_mismatch"


@pytest.mark.parametrize("attack", BINDING_ATTACKS)
async def test_if_any_nonce_would_do_it_would_renew(
    attack: type[HonestNode], coordinator: LiveCoordinator, host: NodeTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coordinator.enrol("alpha", host)
    weakened.takes_any_nonce(coordinator, monkeypatch)
    node = attack(coordinator, "alpha", host)
    await node.register()

    await node.renew()

    assert "alpha" in await coordinator.leases()


# ---- hosts that change while they hold a lease ----


@pytest.fixture
async def own_tpm(soft_tpms: SoftTpmPool) -> AsyncIterator[SoftTpm]:
    """A TPM that a test may change."""
    with soft_tpms.lend() as soft_tpm:
        yield soft_tpm


@pytest.fixture
async def own_host(own_tpm: SoftTpm, coordinator: LiveCoordinator) -> AsyncIterator[NodeTpm]:
    """A host that a test may tamper with, enrolled as alpha."""
    async with open_host(own_tpm) as opened:
        await coordinator.enrol("alpha", opened)
        yield opened


class ClaimsGoodValues(HonestNode):
    """Sends the values that the policy wants, whatever was quoted."""

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        quote, _ = await super().quote(bound_to, selection)
        return quote, (ZERO, ZERO)


class QuotesOtherPcrs(HonestNode):
    """Quotes PCRs 0 and 7, whose values are those that the policy wants of 0 and 4."""

    def selection(self, challenge: object) -> PcrSelection:
        return PcrSelection(PcrBank.SHA256, (0, 7))


TAMPERED = [
    (HonestNode, "pcr_not_in_policy", weakened.trusts_any_platform),
    (
        ClaimsGoodValues,
        "pcr_digest_mismatch",
        weakened.takes_any_values(PcrValues(ASKED, {0: ZERO, 4: sha256(ZERO + EVIL)})),
    ),
    (QuotesOtherPcrs, "wrong_pcr_selection", weakened.takes_any_selection),
]


async def tamper_after_admission(node: HonestNode) -> None:
    if isinstance(node, QuotesOtherPcrs):
        node.selection = lambda _: ASKED  # type: ignore[method-assign]
    await node.register()
    vars(node).pop("selection", None)
    await node.host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)


@pytest.mark.parametrize(("attack", "reason"), [row[:2] for row in TAMPERED])
async def test_a_host_that_is_tampered_with_is_out_at_its_next_quote(
    attack: type[HonestNode], reason: str, coordinator: LiveCoordinator, own_host: NodeTpm
) -> None:
    node = attack(coordinator, "alpha", own_host)
    await tamper_after_admission(node)

    assert await node.is_put_out() == reason
    assert await coordinator.last_end("alpha") == reason


@pytest.mark.parametrize(("attack", "weaken"), [row[::2] for row in TAMPERED])
async def test_without_the_defence_a_tampered_host_would_stay(
    attack: type[HonestNode],
    weaken: Weaken,
    coordinator: LiveCoordinator,
    own_host: NodeTpm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = attack(coordinator, "alpha", own_host)
    await tamper_after_admission(node)
    weaken(coordinator, monkeypatch)

    await node.renew()

    assert "alpha" in await coordinator.leases()


async def test_the_quote_of_another_tpm_does_not_renew(
    coordinator: LiveCoordinator, own_host: NodeTpm, other_host: NodeTpm
) -> None:
    node = HonestNode(coordinator, "alpha", own_host)
    await tamper_after_admission(node)
    node.host = other_host

    assert await node.is_put_out() == "bad_signature"


async def test_a_reboot_inside_a_lease_ends_it_and_the_host_may_register_again(
    coordinator: LiveCoordinator, own_tpm: SoftTpm
) -> None:
    async with open_host(own_tpm) as before:
        await coordinator.enrol("alpha", before)
        node = HonestNode(coordinator, "alpha", before)
        await node.register()
    own_tpm.reset()
    async with open_host(own_tpm) as after:
        node.host = after

        assert await node.is_put_out() == "rebooted"
        assert await HonestNode(coordinator, "alpha", after).is_admitted()


async def test_a_suspension_to_ram_inside_a_lease_ends_it_as_well(
    coordinator: LiveCoordinator, own_tpm: SoftTpm
) -> None:
    """Whoever holds the memory meanwhile may change it; the TPM's PCRs stay as they were."""
    async with open_host(own_tpm) as before:
        await coordinator.enrol("alpha", before)
        node = HonestNode(coordinator, "alpha", before)
        await node.register()
    own_tpm.sleep_and_wake()
    async with open_host(own_tpm) as after:
        node.host = after

        assert await node.is_put_out() == "rebooted"


async def test_not_met_a_host_whose_tpm_was_reset_while_it_runs_registers_as_what_it_says(
    coordinator: LiveCoordinator, own_tpm: SoftTpm
) -> None:
    """A TPM that comes out of S3 with empty PCRs was reset, like one of a host that boots: nothing tells them apart."""
    async with open_host(own_tpm) as host:
        await coordinator.enrol("alpha", host)
        await host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)
        with pytest.raises(RefusalError, match="pcr_not_in_policy"):
            await HonestNode(coordinator, "alpha", host).register()
    own_tpm.reset()
    async with open_host(own_tpm) as as_if_booted:
        # What a good boot would have extended; here that is nothing.
        assert await HonestNode(coordinator, "alpha", as_if_booted).is_admitted()


async def test_the_store_would_notice_the_reboot_as_well(
    coordinator: LiveCoordinator, own_tpm: SoftTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    weakened.leaves_out("check_same_boot", module="tccp.coordinator.renewals")(coordinator, monkeypatch)
    async with open_host(own_tpm) as before:
        await coordinator.enrol("alpha", before)
        node = HonestNode(coordinator, "alpha", before)
        await node.register()
    own_tpm.reset()
    async with open_host(own_tpm) as after:
        node.host = after

        assert await node.is_put_out() == "counters_moved"


# ---- the policy and the record change ----


async def test_a_policy_that_excludes_a_connected_node_puts_it_out_at_once(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    await coordinator.add_policy({0: EVIL, 4: ZERO}, version=2)

    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))
    with pytest.raises(RefusalError, match="pcr_not_in_policy"):
        await alpha.receive(RenewalChallenge)
    assert await coordinator.leases() == {}


async def test_a_policy_that_still_allows_a_connected_node_is_what_it_is_judged_by_from_now_on(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    await coordinator.add_policy({0: ZERO, 7: ZERO}, version=2)

    challenge = await alpha.receive(RenewalChallenge)
    assert challenge.pcr_indexes == (0, 7)
    await alpha.connection.send(await alpha.answer_renewal(challenge))
    await alpha.receive(Renewed)
    assert (await coordinator.leases())["alpha"].policy_version == 2


async def test_an_old_policy_does_not_come_back(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await coordinator.add_policy({0: EVIL}, version=3)

    with pytest.raises(RefusedError, match="policy_not_newer"):
        await coordinator.add_policy({0: ZERO}, version=2)
    assert await alpha.is_refused() == "pcr_not_in_policy"


async def test_a_node_that_speaks_out_of_turn_is_cut_off_and_renews_nothing(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    before = await coordinator.leases()

    evidence = await alpha.answer_renewal(RenewalChallenge(alpha.lease_id, bytes(32), 11, (0, 4)))
    await alpha.say(frame(encode(evidence)))

    with pytest.raises((PeerGoneError, ProtocolError)):
        await alpha.receive(RenewalChallenge)
    assert await coordinator.leases() == before


@pytest.mark.parametrize("slept_ms", [29_000, 31_000], ids=["control", "too late"])
async def test_a_challenge_that_was_held_up_while_the_coordinators_host_slept_renews_nothing(
    coordinator: LiveCoordinator, alpha: HonestNode, slept_ms: int
) -> None:
    """The node would count its lease from when it has heard of it, later than a VM of its is given to others."""
    await alpha.register()
    before = (await coordinator.leases())["alpha"]
    await coordinator.challenge_now("alpha")
    challenge = await alpha.receive(RenewalChallenge)
    coordinator.services.clock._offset_ms += slept_ms

    await alpha.connection.send(await alpha.answer_renewal(challenge))

    if slept_ms == 29_000:
        await alpha.receive(Renewed)
        expires_ms = (await coordinator.leases())["alpha"].expires_ms
        assert expires_ms <= coordinator.services.clock.now_ms() + 60_000 - slept_ms  # it counts from the asking
        return
    with pytest.raises(PeerGoneError):
        await alpha.receive(Renewed)
    assert (await coordinator.leases())["alpha"] == before
