"""Hosts that lie with quotes when they register. Each lie is refused, and works where its defence is left out."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from tccp.model import PcrBank, PcrSelection, PcrValues, spki_sha256
from tccp.node.identity import make_node_identity
from tccp.node.registration import NodeTpm
from tccp.protocol import binding
from tccp.protocol.messages import Challenge, Evidence, Hello
from tccp.protocol.statements import decode_identity, encode_statement
from tccp.tpm import Quote
from tccp.transport.errors import PeerGoneError
from tests.support import weakened
from tests.support.event_logs import EV_SEPARATOR, event, header
from tests.support.live_coordinator import ZERO, HonestNode, LiveCoordinator, open_host
from tests.support.soft_tpm import SoftTpmPool
from tests.support.weakened import Weaken

ASKED = PcrSelection(PcrBank.SHA256, (0, 4))
EVIL = b"\xab" * 32


def statement_like(statement: bytes, **other: object) -> bytes:
    return encode_statement(msgspec.structs.replace(decode_identity(statement), **other))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# ---- what a quote is bound to ----


class ReplaysItsOldQuote(HonestNode):
    """Shows the quote that admitted it the last time."""

    async def answer(self, challenge: Challenge) -> Evidence:
        earlier = HonestNode(self.coordinator, "alpha", self.host)
        earlier.identity = self.identity
        old = await earlier.answer(await earlier.get_challenge())
        return msgspec.structs.replace(old, credential=await self.credential(challenge))


class AnswersAnotherSession(HonestNode):
    """Has two sessions at once, and quotes over the nonce of the other one; all the rest is right."""

    async def answer(self, challenge: Challenge) -> Evidence:
        other = HonestNode(self.coordinator, "alpha", self.host)
        other_challenge = await other.get_challenge()
        answer = await super().answer(msgspec.structs.replace(challenge, nonce=other_challenge.nonce))
        return msgspec.structs.replace(answer, credential=await self.credential(challenge))


class OffersARenewal(HonestNode):
    """A quote over the right nonce, on the right channel, but for another verb."""

    def bound_to(self, challenge: Challenge) -> bytes:
        return binding.renewal(challenge.nonce, self.channel, bytes(16), self.identity.statement)


class QuotesForAnotherCoordinator(HonestNode):
    """A quote that was meant for a coordinator with another identity."""

    def bound_to(self, challenge: Challenge) -> bytes:
        channel = replace(self.channel, coordinator_id=EVIL)
        return binding.registration(challenge.nonce, channel, self.identity.statement)


class RelaysAGoodHost(HonestNode):
    """Sits between a good host and the coordinator: that host quotes for its own TLS key, this one shows its own."""

    def bound_to(self, challenge: Challenge) -> bytes:
        good = make_node_identity("alpha")
        channel = replace(self.channel, node_spki=spki_sha256(good.tls_spki))
        return binding.registration(challenge.nonce, channel, good.statement)


class RelaysAGoodHostWithItsStatement(HonestNode):
    """The same, and passes the good host's identity statement on, too."""

    async def answer(self, challenge: Challenge) -> Evidence:
        good = make_node_identity("alpha")
        channel = replace(self.channel, node_spki=spki_sha256(good.tls_spki))
        quote, pcrs = await self.quote(
            binding.registration(challenge.nonce, channel, good.statement), self.selection(challenge)
        )
        credential = await self.credential(challenge)
        return Evidence(credential, good.statement, quote.attest, quote.signature, pcrs, b"")


class SwapsItsStatement(HonestNode):
    """Quotes over one identity statement and shows another, with other keys for VMs in it."""

    async def answer(self, challenge: Challenge) -> Evidence:
        other = statement_like(self.identity.statement, hpke_key=bytes(1216))
        return msgspec.structs.replace(await super().answer(challenge), identity=other)


class NamesAnotherTlsKey(HonestNode):
    """Its statement, well covered by the quote, names a TLS key that is not this connection's."""

    async def answer(self, challenge: Challenge) -> Evidence:
        other = statement_like(self.identity.statement, tls_spki=make_node_identity("alpha").tls_spki)
        self.identity = replace(self.identity, statement=other)
        return await super().answer(challenge)


class NamesAnotherNode(HonestNode):
    """Its statement, well covered by the quote, says that it is beta."""

    async def answer(self, challenge: Challenge) -> Evidence:
        self.identity = replace(self.identity, statement=statement_like(self.identity.statement, node="beta"))
        return await super().answer(challenge)


class SpeaksAnotherVersion(HonestNode):
    """A later version of the protocol, which we do not know."""

    async def hello(self) -> Hello:
        return msgspec.structs.replace(await super().hello(), version=2)


class ExplainsOtherValues(HonestNode):
    """Its event log tells of a measured boot that its PCRs know nothing of."""

    def event_log(self) -> bytes:
        return header(PcrBank.SHA256) + event(4, EV_SEPARATOR, bytes(4), PcrBank.SHA256)


BINDING_ATTACKS = [
    (ReplaysItsOldQuote, "nonce_mismatch", weakened.takes_any_nonce),
    (AnswersAnotherSession, "nonce_mismatch", weakened.takes_any_nonce),
    (OffersARenewal, "nonce_mismatch", weakened.takes_any_nonce),
    (QuotesForAnotherCoordinator, "nonce_mismatch", weakened.takes_any_nonce),
    (RelaysAGoodHost, "nonce_mismatch", weakened.takes_any_nonce),
    (RelaysAGoodHostWithItsStatement, "nonce_mismatch", weakened.takes_any_nonce_and_identity),
    (SwapsItsStatement, "nonce_mismatch", weakened.takes_any_nonce),
    (NamesAnotherTlsKey, "another_tls_key", weakened.takes_any_identity),
    (NamesAnotherNode, "another_name", weakened.takes_any_identity),
    (SpeaksAnotherVersion, "protocol_version", weakened.leaves_out("_check_version")),
    (ExplainsOtherValues, "event_log_mismatch", weakened.leaves_out("explain_event_log")),
]


@pytest.mark.parametrize(("attack", "reason"), [row[:2] for row in BINDING_ATTACKS])
async def test_a_quote_for_something_else_is_refused(
    attack: type[HonestNode], reason: str, coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    await coordinator.enrol("alpha", host)

    assert await attack(coordinator, "alpha", host).is_refused() == reason


@pytest.mark.parametrize(("attack", "weaken"), [row[::2] for row in BINDING_ATTACKS])
async def test_without_the_defence_it_would_be_admitted(
    attack: type[HonestNode],
    weaken: Weaken,
    coordinator: LiveCoordinator,
    host: NodeTpm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await coordinator.enrol("alpha", host)
    weaken(coordinator, monkeypatch)

    admitted = await attack(coordinator, "alpha", host).register()

    assert (await coordinator.leases())["alpha"].lease_id == admitted.lease_id


async def test_a_statement_that_is_none_admits_nobody_though_the_quote_covers_it(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    good = alpha.identity
    alpha.identity = replace(good, statement=b"nonsense")
    with pytest.raises(PeerGoneError):
        await alpha.register()
    assert await coordinator.leases() == {}

    alpha.identity = good
    assert await alpha.is_admitted()


async def test_a_log_that_explains_the_pcrs_is_welcome(coordinator: LiveCoordinator, soft_tpms: SoftTpmPool) -> None:
    class Explains(HonestNode):
        def event_log(self) -> bytes:
            return header(PcrBank.SHA256) + event(4, EV_SEPARATOR, EVIL, PcrBank.SHA256)

    await coordinator.add_policy({0: ZERO, 4: sha256(ZERO + sha256(EVIL))}, version=2)
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await host.tpm.extend_pcr(4, PcrBank.SHA256, sha256(EVIL))
            await coordinator.enrol("alpha", host)

            assert await Explains(coordinator, "alpha", host).is_admitted()


# ---- what a quote says ----


@pytest.fixture
async def tampered_host(soft_tpms: SoftTpmPool, coordinator: LiveCoordinator) -> AsyncIterator[NodeTpm]:
    """Enrolled as alpha, and booted with something else: PCR 4 of its SHA-256 bank says so."""
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as opened:
            await opened.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)
            await coordinator.enrol("alpha", opened)
            yield opened


class TellsTheTruth(HonestNode):
    """Hides nothing."""


class ClaimsGoodValues(HonestNode):
    """Sends the values that the policy wants beside a quote of those that are."""

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        quote, _ = await super().quote(bound_to, selection)
        return quote, (ZERO, ZERO)


class QuotesOtherPcrs(HonestNode):
    """Quotes PCRs 0 and 7, whose values are those that the policy wants of 0 and 4."""

    def selection(self, challenge: Challenge) -> PcrSelection:
        return PcrSelection(PcrBank.SHA256, (0, 7))


class QuotesAnotherBank(HonestNode):
    """Quotes the bank that was not extended."""

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        quote, _ = await super().quote(bound_to, PcrSelection(PcrBank.SHA384, selection.indexes))
        return quote, (ZERO, ZERO)


class QuotesMorePcrs(HonestNode):
    """Quotes one PCR more than it was asked for, and shows the values of the first ones."""

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        quote, pcrs = await super().quote(bound_to, PcrSelection(PcrBank.SHA256, (0, 4, 7)))
        return quote, pcrs[:2]


class SendsLongerValues(HonestNode):
    """Quotes another bank and sends its values as they are."""

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        return await super().quote(bound_to, PcrSelection(PcrBank.SHA384, selection.indexes))


class SendsTooFewValues(HonestNode):
    """Sends the value of PCR 0 alone."""

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        return await super().quote(bound_to, PcrSelection(PcrBank.SHA256, (0,)))


PCR_ATTACKS = [
    (TellsTheTruth, "pcr_not_in_policy"),
    (ClaimsGoodValues, "pcr_digest_mismatch"),
    (QuotesOtherPcrs, "wrong_pcr_selection"),
    (QuotesAnotherBank, "wrong_pcr_selection"),
    (QuotesMorePcrs, "wrong_pcr_selection"),
    (SendsLongerValues, "pcr_values"),
    (SendsTooFewValues, "pcr_values"),
]


@pytest.mark.parametrize(("attack", "reason"), PCR_ATTACKS)
async def test_a_tampered_host_is_refused_whatever_it_says(
    attack: type[HonestNode], reason: str, coordinator: LiveCoordinator, tampered_host: NodeTpm
) -> None:
    assert await attack(coordinator, "alpha", tampered_host).is_refused() == reason


TRUE = PcrValues(ASKED, {0: ZERO, 4: sha256(ZERO + EVIL)})
PCR_DEFENCES = [
    (TellsTheTruth, weakened.trusts_any_platform),
    (ClaimsGoodValues, weakened.takes_any_values(TRUE)),
    (QuotesOtherPcrs, weakened.takes_any_selection),
    (QuotesAnotherBank, weakened.takes_any_selection),
]


@pytest.mark.parametrize(("attack", "weaken"), PCR_DEFENCES)
async def test_without_the_defence_a_tampered_host_would_be_admitted(
    attack: type[HonestNode],
    weaken: Weaken,
    coordinator: LiveCoordinator,
    tampered_host: NodeTpm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weaken(coordinator, monkeypatch)

    assert await attack(coordinator, "alpha", tampered_host).is_admitted()


async def test_a_quote_from_before_the_change_does_not_help(
    coordinator: LiveCoordinator, soft_tpms: SoftTpmPool
) -> None:
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await coordinator.enrol("alpha", host)
            before = HonestNode(coordinator, "alpha", host)
            good = await before.answer(await before.get_challenge())
            await host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)

            class ShowsTheQuoteFromBefore(HonestNode):
                async def answer(self, challenge: Challenge) -> Evidence:
                    return msgspec.structs.replace(good, credential=await self.credential(challenge))

            after = ShowsTheQuoteFromBefore(coordinator, "alpha", host)
            after.identity = before.identity

            assert await after.is_refused() == "nonce_mismatch"


async def test_every_refusal_is_in_the_log_with_its_reason(
    coordinator: LiveCoordinator, tampered_host: NodeTpm
) -> None:
    await TellsTheTruth(coordinator, "alpha", tampered_host).is_refused()
    await ClaimsGoodValues(coordinator, "alpha", tampered_host).is_refused()

    refusals = [msgspec.msgpack.decode(event.body) for event in await coordinator.log() if event.kind == "refuse"]
    assert [refusal["reason"] for refusal in refusals] == ["pcr_not_in_policy", "pcr_digest_mismatch"]
