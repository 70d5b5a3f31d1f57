"""The coordinator's side of a node's connection, from its TLS handshake to its lease.

Straight down the exchange of docs/PROTOCOL.md. What a node sends is believed step by step: `KnownNode` (its EK is
enrolled), `BoundAk` (its AK lives in the TPM of that EK), `VerifiedQuote`, `TrustedPlatform`, and only then a lease.
"""

import functools
import os
import ssl
from dataclasses import dataclass

import structlog
import trio

from tccp.attestation.attributes import attributes_of_tpm
from tccp.attestation.boot_policy import AnyPolicy
from tccp.attestation.ek_id import ek_id_of
from tccp.attestation.enrolment import BoundAk, challenge_ak, confirm_activation
from tccp.attestation.policy import PcrPolicy, TrustedPlatform
from tccp.attestation.quote import AkKey, QuoteClaim, VerifiedQuote
from tccp.coordinator.admission import (
    Grant,
    KnownNode,
    check_identity,
    claimed_pcrs,
    explain_event_log,
    grant_lease,
    identify,
)
from tccp.coordinator.examination import PATIENCE_S, KnownBoot
from tccp.coordinator.launch import Launches
from tccp.coordinator.refusals import refuse
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services, event_body
from tccp.coordinator.sessions import ANSWER_S, Lease, NodeSession, check_in_time
from tccp.errors import EnrolmentError, EvidenceError, PolicyError
from tccp.model import NodeName, PcrSelection, spki_sha256
from tccp.protocol import binding
from tccp.protocol import fields as f
from tccp.protocol.binding import Channel
from tccp.protocol.messages import (
    PROTOCOL_VERSION,
    Admitted,
    AnyMessage,
    Challenge,
    Evidence,
    Hello,
    HostLogPart,
    HostLogRequest,
    NodeReport,
    NodeRequest,
    RenewalEvidence,
)
from tccp.protocol.session import Role, Session, expect
from tccp.protocol.statements import IdentityStatement
from tccp.store import ConflictError
from tccp.transport.accepting import address_of, forgiving
from tccp.transport.connection import Connection, Stream, fresh_nonce, handshake
from tccp.transport.errors import gone_after

HELLO_S = 10.0

log = structlog.get_logger()


async def serve_node(
    services: Services, renewals: Renewals, launches: Launches, stream: trio.SocketStream, context: ssl.SSLContext
) -> None:
    """Serve one node from its TLS handshake to the end of its connection. Never raises what a peer can cause."""
    address = address_of(stream)
    with forgiving(address):
        await serve_stream(services, renewals, launches, await handshake(stream, context, server_side=True), address)


async def serve_stream(
    services: Services, renewals: Renewals, launches: Launches, stream: Stream, address: str
) -> None:
    """Serve a node whose TLS handshake is done; closes *stream*. For a `forgiving` caller."""
    try:
        own = spki_sha256(services.identity.tls_spki)
        connection = Connection(stream, Session(Role.COORDINATOR), own_spki_sha256=own)
        await _serve(services, renewals, launches, connection, address)
    finally:
        stream.close()


async def _serve(
    services: Services, renewals: Renewals, launches: Launches, connection: Connection, address: str
) -> None:
    channel = connection.channel(services.coordinator_id, own_end_is_coordinator=True)
    with gone_after(HELLO_S):
        hello = await connection.receive(Hello)
    try:
        _check_version(hello)
        node = await identify(hello, store=services.store, authorities=services.authorities, now=services.clock.now())
        lease = await register(services, connection, channel, hello, node)
    except (EvidenceError, ConflictError) as problem:
        await refuse(services, connection, address, await _claimed_name(services, hello), problem)
        return
    policy, version = lease.record.policy, lease.record.policy_version
    session = NodeSession(lease.record.node, address, connection, channel, lease, policy, version, policy)
    try:
        await renewals.add(session)
        launches.remind(session)
        with session.scope:
            await connection.pass_on(functools.partial(_take, renewals, launches, session))
    finally:
        services.sessions.close(session)


def _take(renewals: Renewals, launches: Launches, session: NodeSession, message: AnyMessage) -> None:
    """What an admitted node says."""
    if session.scope.cancel_called:
        return
    if isinstance(message, NodeRequest | NodeReport):
        launches.take(session, message)
    elif isinstance(message, HostLogPart):
        renewals.take_part(session, message)
    else:
        renewals.answer(session, expect(message, RenewalEvidence))


async def _claimed_name(services: Services, hello: Hello) -> NodeName | None:
    """Whom a peer claims to be by the EK that it shows; None when that is nobody's."""
    try:
        record = await services.store.node_by_ek(ek_id_of(hello.ek_public))
    except EnrolmentError:
        return None
    return record.name if record else None


def _check_version(hello: Hello) -> None:
    if hello.version != PROTOCOL_VERSION:
        raise PolicyError("protocol_version", f"version {hello.version}, this is {PROTOCOL_VERSION}")


async def register(
    services: Services, connection: Connection, channel: Channel, hello: Hello, node: KnownNode
) -> Lease:
    """Messages 2 to 4: prove ourselves, challenge the node, and admit it if everything holds.

    Raises:
        EvidenceError: Its evidence does not hold, or its platform is none that the policy names.
        ConflictError: The store's state forbids the lease: revoked, or judged by another policy, in the meantime.
    """
    policy = services.policies.get(node.record.policy)
    shadow, selection = services.shadows.beside(policy)
    proved = await _prove(services, connection, channel, hello, node, selection=selection)
    boot, event_log = KnownBoot(), proved.evidence.event_log

    async def judge_beside() -> KnownBoot:
        if shadow is None:
            return KnownBoot()
        now_ms, name = services.clock.now_ms(), node.record.name
        return await services.shadows.at_registration(
            shadow, name, proved.quote, event_log, in_force=boot, at_ms=now_ms
        )

    try:
        platform = await _judge(services, connection, node, proved, policy=policy, boot=boot)
    except EvidenceError:
        await judge_beside()
        raise
    # Once: the record and the node must be told the same, and a reload may come in between.
    lease_s = services.config.leases.seconds
    grant = grant_lease(
        platform,
        proved.identity,
        proved.evidence.identity,
        ak_name=proved.ak.ak_name,
        node=node.record,
        own=services.identity,
        now_ms=services.clock.now_ms(),
        lease_s=lease_s,
        tls_spki_sha256=connection.peer_spki_sha256,
    )
    deadline = trio.current_time() + lease_s
    await _admit(services, connection, grant, proved.identity, boot, lease_s=lease_s)
    lease = Lease(
        grant.record,
        proved.key,
        grant.certificates,
        deadline,
        proved.asked_at,
        ek_id=node.record.ek_id,
        tpm=attributes_of_tpm(node.ek, platform.quote),
        boot=boot,
    )
    lease.boot_in_shadow = await judge_beside()
    return lease


@dataclass(frozen=True, slots=True)
class _Proved:
    """What a node's answer to its challenge has proved: a quote by a key of its TPM, over this connection and boot."""

    evidence: Evidence
    ak: BoundAk
    key: AkKey
    quote: VerifiedQuote  # of all that was asked for
    identity: IdentityStatement
    asked_at: float  # trio time


async def _prove(
    services: Services,
    connection: Connection,
    channel: Channel,
    hello: Hello,
    node: KnownNode,
    *,
    selection: PcrSelection,
) -> _Proved:
    """Challenge a node, and check everything in its answer but the platform."""
    activation = challenge_ak(hello.ak_public, ek=node.ek, secret=os.urandom(32))
    own = await services.evidence.evidence_for(binding.coordinator_leaf(hello.node_nonce, channel))
    nonce = fresh_nonce()
    asked_at, asked_ms = trio.current_time(), services.clock.now_ms()
    await connection.send(
        Challenge(
            coordinator=own,
            id_object=activation.id_object,
            encrypted_secret=activation.encrypted_secret,
            nonce=nonce.value,
            bank=int(selection.bank),
            pcr_indexes=selection.indexes,
        )
    )
    with gone_after(ANSWER_S):
        evidence = await connection.receive(Evidence)
    check_in_time(asked_ms, services.clock.now_ms())
    ak = confirm_activation(activation, evidence.credential)
    key = AkKey.from_tpm_public(ak.ak_public)
    quote = await services.verifier.verify(
        QuoteClaim(
            evidence.attest,
            evidence.signature,
            claimed_pcrs(selection, evidence.pcrs),
            ak=key,
            qualifying_data=binding.registration(nonce.value, channel, evidence.identity),
        )
    )
    identity = check_identity(evidence.identity, node=node, tls_spki=connection.peer_spki)
    return _Proved(evidence, ak, key, quote, identity, asked_at)


async def _judge(
    services: Services, connection: Connection, node: KnownNode, proved: _Proved, *, policy: AnyPolicy, boot: KnownBoot
) -> TrustedPlatform:
    """The platform that *policy* trusts, with the logs of the host that this takes; *boot* remembers them."""
    event_log, quote = proved.evidence.event_log, proved.quote.of(policy.selection)

    async def fetch(name: f.HostLog, offset: int) -> bytes:
        await connection.send(HostLogRequest(log=name, offset=offset))
        with gone_after(ANSWER_S):
            return (await connection.receive(HostLogPart)).content

    with gone_after(PATIENCE_S):
        platform = await services.examiner.examine(
            policy, quote, boot, fetch, event_log=event_log, node=node.record.name
        )
    if isinstance(policy, PcrPolicy):  # a measured-boot policy has explained more of it
        explain_event_log(event_log, quote)
    return platform


async def _admit(
    services: Services,
    connection: Connection,
    grant: Grant,
    identity: IdentityStatement,
    boot: KnownBoot,
    *,
    lease_s: int,
) -> None:
    record = grant.record
    body = event_body(
        lease_id=record.lease_id,
        policy=record.policy,
        policy_version=record.policy_version,
        boot_id=record.boot_id,
        tls_spki_sha256=record.tls_spki_sha256,
        software=identity.software,
        **({"warnings": "; ".join(boot.warnings)} if boot.warnings else {}),
    )
    receipt = await services.log.receipt(await services.store.admit(record, body))
    services.sessions.counters.registrations += 1
    services.sessions.refusals.pop(record.node, None)
    log.info("admitted", node=str(record.node), lease=record.lease_id.hex(), policy=record.policy)
    for warning in boot.warnings:
        log.warning("policy_warning", node=str(record.node), policy=record.policy, detail=warning)
    await connection.send(
        Admitted(
            lease_id=record.lease_id,
            lease_s=lease_s,
            certificate=grant.certificates.issue(not_before_ms=record.issued_ms, not_after_ms=record.expires_ms),
            receipt=receipt,
        )
    )
