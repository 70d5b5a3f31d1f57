"""The verdict on a node: who it is, whether its evidence holds, and the lease that follows.

Pure steps in the order in which trust grows; `tccp.coordinator.registration` does the talking. Each returns a
value that the next one needs, so that none can be left out.
"""

import datetime as dt
import os
from dataclasses import dataclass

from tccp.attestation.ek_id import ek_id_of
from tccp.attestation.enrolment import EkAuthorities, TrustedEk, bind_ek, pinned_ek, verify_ek_certificate
from tccp.attestation.event_log import explain_incomplete, replay_event_log
from tccp.attestation.policy import TrustedPlatform
from tccp.attestation.quote import VerifiedQuote
from tccp.coordinator.identity import CoordinatorIdentity
from tccp.errors import EnrolmentError, PolicyError, QuoteError
from tccp.model import PcrSelection, PcrValues
from tccp.protocol.messages import Hello
from tccp.protocol.statements import IdentityStatement, decode_identity
from tccp.store import LeaseRecord, NodeRecord, Renewal, Store
from tccp.transport.certificates import CertificateTemplate, node_host

# Extended before the operating system runs; what comes later is in other logs (IMA, systemd).
FIRMWARE_PCRS = frozenset({*range(10), 14})


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node of the perimeter record that shows the EK it was enrolled with; it has proved nothing yet."""

    record: NodeRecord
    ek: TrustedEk


async def identify(hello: Hello, *, store: Store, authorities: EkAuthorities, now: dt.datetime) -> KnownNode:
    """Find the node whose EK *hello* shows.

    The record is asked first, so that a stranger costs no certificate chain.

    Raises:
        EnrolmentError: The EK is not enrolled, was revoked, or its certificate leads to no authority.
    """
    record = await store.node_by_ek(ek_id_of(hello.ek_public))
    if record is None:
        hint = "enrol its EK: `tccp coordinator enrol`"
        raise EnrolmentError("not_enrolled", f"EK {ek_id_of(hello.ek_public).hex()} is in no record", hint=hint)
    if record.revoked_ms is not None:
        raise EnrolmentError("revoked", f"{record.name} was revoked: {record.revoke_reason}")
    if record.ek_public is not None:
        return KnownNode(record, pinned_ek(hello.ek_public, pinned_sha256=record.ek_id))
    certificate = verify_ek_certificate(hello.ek_certificate, hello.ek_chain, authorities=authorities, now=now)
    return KnownNode(record, bind_ek(hello.ek_public, certificate))


def claimed_pcrs(selection: PcrSelection, digests: tuple[bytes, ...]) -> PcrValues:
    """The values that a node claims for the PCRs that we asked for.

    Raises:
        QuoteError: Not one value of the bank's length for each.
    """
    try:
        return PcrValues(selection, dict(zip(selection.indexes, digests, strict=True)))
    except ValueError as problem:
        raise QuoteError("pcr_values", str(problem)) from None


def check_identity(statement: bytes, *, node: KnownNode, tls_spki: bytes) -> IdentityStatement:
    """The node's boot-time keys, covered by its verified quote, which must be those of *node* on this connection.

    Raises:
        ProtocolError: Not an identity statement.
        EnrolmentError: It names another node, or another TLS key than the connection's.
    """
    identity = decode_identity(statement)
    if identity.node != str(node.record.name):
        detail = f"calls itself {identity.node!r}, its EK is enrolled as {node.record.name}"
        raise EnrolmentError("another_name", detail, hint="set `name` in its node.toml to the enrolled name")
    if identity.tls_spki != tls_spki:
        raise EnrolmentError("another_tls_key", "the identity statement names another TLS key than this connection's")
    return identity


def explain_event_log(event_log: bytes, quote: VerifiedQuote) -> None:
    """A log that was sent must explain the firmware's PCRs; a host may have none (no measuring firmware).

    Raises:
        EventLogError: Malformed, or it explains other values.
    """
    indexes = FIRMWARE_PCRS.intersection(quote.pcrs.selection.indexes)
    if event_log and indexes:
        explain_incomplete(replay_event_log(event_log, [quote.pcrs.selection.bank]), quote.pcrs, indexes)


def check_same_boot(lease: LeaseRecord, quote: VerifiedQuote) -> None:
    """A renewal must come from the boot that was admitted.

    Raises:
        PolicyError: ``rebooted``: resetCount or restartCount moved.
    """
    then, now = (lease.reset_count, lease.restart_count), (quote.reset_count, quote.restart_count)
    if then != now:
        raise PolicyError("rebooted", f"reset and restart counts were {then}, are {now}: another boot")


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as the store keeps it, and what issues the certificates that the node shows for it."""

    record: LeaseRecord
    certificates: CertificateTemplate


def grant_lease(
    platform: TrustedPlatform,
    identity: IdentityStatement,
    statement: bytes,
    *,
    ak_name: bytes,
    node: NodeRecord,
    own: CoordinatorIdentity,
    now_ms: int,
    lease_s: int,
    tls_spki_sha256: bytes,
) -> Grant:
    """The lease for *platform*, which its policy vouches for."""
    quote = platform.quote
    record = LeaseRecord(
        lease_id=os.urandom(16),
        node=node.name,
        boot_id=identity.boot_id,
        ak_name=ak_name,
        tls_spki_sha256=tls_spki_sha256,
        identity=statement,
        policy=platform.policy_name,
        policy_version=platform.policy_version,
        issued_ms=now_ms,
        renewed_ms=now_ms,
        expires_ms=now_ms + 1000 * lease_s,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        clock_ms=quote.clock_ms,
    )
    certificates = own.keys.ca.template(identity.tls_spki, node_host(identity.node), server=True, client=True)
    return Grant(record, certificates)


def renew_lease(platform: TrustedPlatform, lease_id: bytes, *, now_ms: int, ends_in_s: float) -> Renewal:
    """The same lease, for which the policy of *platform* vouches once more, until *ends_in_s* from now."""
    quote = platform.quote
    return Renewal(
        lease_id=lease_id,
        at_ms=now_ms,
        expires_ms=now_ms + max(int(1000 * ends_in_s), 1),
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        clock_ms=quote.clock_ms,
        policy=platform.policy_name,
        policy_version=platform.policy_version,
    )
