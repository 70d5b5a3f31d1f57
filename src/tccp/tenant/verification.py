"""Is this the coordinator that a tenant means to trust? Answered before she says anything of her own.

    Introduction --> identity, quote, channel --> PCRs, software, event log --> whose TPM --> head of the log
                                                                                                  |
                                                                                     VerifiedIntroduction

Whoever holds a `VerifiedIntroduction` may go on; nothing else makes one. Of the checks only the third needs the other
side, and what is sent for it is a random number, encrypted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tccp.attestation.enrolment import (
    SECRET_BYTES,
    BoundAk,
    EkAuthorities,
    TrustedEk,
    bind_ek,
    challenge_ak,
    confirm_activation,
    pinned_ek,
    verify_ek_certificate,
)
from tccp.attestation.event_log import explain_incomplete, replay_event_log
from tccp.attestation.quote import AkKey, VerifiedQuote
from tccp.errors import EnrolmentError, EventLogError, LogError, PolicyError, QuoteError
from tccp.protocol import binding
from tccp.protocol.statements import CoordinatorStatement, coordinator_id, decode_coordinator, log_origin
from tccp.protocol.tenant_messages import Activate, Activated, Introduction
from tccp.tenant.policy import TenantPolicy
from tccp.transparency.checkpoint import VerifiedCheckpoint, verify_checkpoint
from tccp.transparency.note import NoteKey
from tccp.transport.certificates import CLOCK_SKEW_S, spki_of_certificate
from tccp.transport.coordinator_evidence import VerifiedCoordinator, verify_coordinator

# What firmware measures before any operating system runs; the others change while one does.
FIRMWARE_PCRS = frozenset({*range(10), 14})
_VERIFIED = object()


@dataclass(frozen=True, slots=True)
class VerifiedIntroduction:
    """A coordinator that proved all that the policy demands, on this connection. Only `verify_introduction` makes one.

    Attributes:
        ak_spki: The key of its TPM, DER: known beforehand, or bound to a trusted EK just now.
        newest: The newest checkpoint; perhaps no witness has seen it.
        witnessed: The newest one with enough cosignatures; the same as *newest* where the policy wants none.
    """

    statement: CoordinatorStatement
    quote: VerifiedQuote
    ak_spki: bytes
    ca_certificate: bytes
    log_url: str
    newest: VerifiedCheckpoint
    witnessed: VerifiedCheckpoint
    _token: object = field(repr=False)

    def __post_init__(self) -> None:
        """Nobody else says that an introduction was verified."""
        if self._token is not _VERIFIED:
            raise TypeError("a VerifiedIntroduction is made by verify_introduction only")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the tenant knows when she connects.

    Attributes:
        policy: Her demands.
        identity_key: From her trust, or the policy; None: whoever proves the rest is accepted, as she said aloud.
        ak_spki: From her trust, or the policy; None: it must be bound to an EK that the policy trusts.
        ek_authorities: Loaded from the folder that the policy names, if it names one.
    """

    policy: TenantPolicy
    identity_key: bytes | None
    ak_spki: bytes | None
    ek_authorities: EkAuthorities | None


def verify_introduction(
    shown: Introduction,
    expected: Expectation,
    *,
    nonce: bytes,
    coordinator_spki: bytes,
    now: datetime,
    secret: bytes,
    ask: Callable[[Activate], Activated],
) -> VerifiedIntroduction:
    """Check everything, in this order; see the module's drawing.

    Args:
        nonce: What we sent.
        coordinator_spki: SHA-256 of the TLS key at the other end, as this side saw it.
        secret: 32 fresh random bytes, for an activation.
        ask: Sends a challenge and returns the answer; called only when the AK is not known beforehand.

    Raises:
        EvidenceError: With the reason. Nothing of the tenant's has been said.
        ProtocolError: What should be a statement is none.
    """
    assert len(secret) == SECRET_BYTES, "the secret of an activation"
    policy = expected.policy
    claimed = decode_coordinator(shown.coordinator.statement)
    identity_key = expected.identity_key or claimed.identity_key
    ak = AkKey.from_spki(expected.ak_spki) if expected.ak_spki else AkKey.from_tpm_public(shown.ak_public)
    verified = verify_coordinator(
        shown.coordinator,
        identity_key=identity_key,
        ak=ak,
        bank=policy.selection.bank,
        leaf=binding.tenant_leaf(nonce, coordinator_id(identity_key), coordinator_spki),
        coordinator_spki=coordinator_spki,
    )
    _judge_platform(shown, verified, policy)
    if spki_of_certificate(shown.ca_certificate) != verified.statement.ca_spki:
        raise QuoteError("coordinator_keys", "the authority that it shows is not the one of its statement")
    if expected.ak_spki is None:
        bound = _bind_ak(shown, expected, now=now, secret=secret, ask=ask)
        if bound.ak_spki != ak.spki:
            raise EnrolmentError("key_mismatch", "the quote was made by another key than was activated")
    origin = log_origin(coordinator_id(identity_key))
    newest, witnessed = _heads(shown, NoteKey(origin, verified.statement.log_key), policy, int(now.timestamp()))
    return VerifiedIntroduction(
        statement=verified.statement,
        quote=verified.quote,
        ak_spki=ak.spki,
        ca_certificate=shown.ca_certificate,
        log_url=shown.log_url,
        newest=newest,
        witnessed=witnessed,
        _token=_VERIFIED,
    )


def _judge_platform(shown: Introduction, verified: VerifiedCoordinator, policy: TenantPolicy) -> None:
    pcrs = verified.quote.pcrs
    try:
        policy.judge_pcrs(pcrs)
    except PolicyError as problem:
        raise PolicyError(problem.reason, problem.detail + explanation(shown, verified), hint=problem.hint) from None
    policy.judge_measured_boot(verified.quote, shown.event_log)
    policy.judge_software(verified.statement.software)
    indexes = FIRMWARE_PCRS.intersection(pcrs.selection.indexes)
    if shown.event_log and indexes:
        explain_incomplete(replay_event_log(shown.event_log, [pcrs.selection.bank]), pcrs, indexes)


def explanation(shown: Introduction, verified: VerifiedCoordinator) -> str:
    """Whether the firmware's event log, if one was sent, leads to the values that were quoted; for a person to read."""
    pcrs = verified.quote.pcrs
    indexes = FIRMWARE_PCRS.intersection(pcrs.selection.indexes)
    if not shown.event_log or not indexes:
        return "; it sent no event log that says why"
    try:
        found = replay_event_log(shown.event_log, [pcrs.selection.bank])
        explained = explain_incomplete(found, pcrs, indexes)
    except EventLogError as problem:
        return f"; its event log does not say why: {problem}"
    return f"; its event log of {len(explained.events)} events leads to just these values, and says what was booted"


def _bind_ak(
    shown: Introduction,
    expected: Expectation,
    *,
    now: datetime,
    secret: bytes,
    ask: Callable[[Activate], Activated],
) -> BoundAk:
    ek = _trusted_ek(shown, expected, now)
    challenge = challenge_ak(shown.ak_public, ek=ek, secret=secret)
    answer = ask(Activate(id_object=challenge.id_object, encrypted_secret=challenge.encrypted_secret))
    return confirm_activation(challenge, answer.credential)


def _trusted_ek(shown: Introduction, expected: Expectation, now: datetime) -> TrustedEk:
    if expected.policy.ek_sha256 is not None:
        return pinned_ek(shown.ek_public, pinned_sha256=expected.policy.ek_sha256)
    if expected.ek_authorities is None:
        raise EnrolmentError("untrusted", "no authority of TPMs is trusted by this policy")
    if not shown.ek_certificate:
        raise EnrolmentError("untrusted", "the coordinator's TPM has no certificate; pin its EK or AK in the policy")
    certificate = verify_ek_certificate(
        shown.ek_certificate, shown.ek_chain, authorities=expected.ek_authorities, now=now
    )
    return bind_ek(shown.ek_public, certificate)


def _heads(
    shown: Introduction, log_key: NoteKey, policy: TenantPolicy, now_s: int
) -> tuple[VerifiedCheckpoint, VerifiedCheckpoint]:
    """The newest checkpoint, and the newest that enough witnesses saw not long ago.

    A cosignature from the future, of a witness whose clock is wrong, would vouch for its head for ever.
    """
    oldest_s, latest_s = now_s - policy.witness_age_s, now_s + CLOCK_SKEW_S

    def verify(note: bytes) -> VerifiedCheckpoint:
        return verify_checkpoint(note, origin=log_key.name, log_key=log_key, witnesses=policy.witnesses)

    def count(head: VerifiedCheckpoint) -> int:
        return sum(oldest_s <= at_s <= latest_s for at_s in head.witnessed_s.values())

    newest = verify(shown.checkpoint)
    seen = [newest, *map(verify, shown.witnessed)]
    enough = [head for head in seen if count(head) >= policy.witnesses_required]
    if not enough:
        raise LogError(
            "witnesses",
            f"{max(map(count, seen))} of the policy's witnesses cosigned a checkpoint in the last "
            f"{policy.witness_age_s} s, {policy.witnesses_required} must have",
            hint="A witness may be down, its clock or ours wrong, or it refuses to cosign; its operator can say which.",
        )
    return newest, max(enough, key=lambda head: head.checkpoint.size)
