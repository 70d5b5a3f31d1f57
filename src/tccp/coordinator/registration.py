"""The coordinator's side of a node's connection: registration, then renewals until the lease ends.

Straight down the exchange of docs/PROTOCOL.md. What a node sends is believed step by step: `KnownNode` (its EK is
enrolled), `BoundAk` (its AK lives in the TPM of that EK), `VerifiedQuote`, `TrustedPlatform`, and only then a lease.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
import trio

from tccp.attestation.enrolment import BoundAk, challenge_ak, confirm_activation
from tccp.attestation.policy import PcrPolicy
from tccp.attestation.quote import AkKey, QuoteClaim
from tccp.coordinator.admission import (
    Grant,
    KnownNode,
    check_identity,
    check_same_boot,
    claimed_pcrs,
    explain_event_log,
    grant_lease,
    identify,
    lease_certificate,
)
from tccp.coordinator.services import Services, event_body
from tccp.coordinator.sessions import NodeSession, Refusal
from tccp.errors import EvidenceError, HostError, PolicyError, ProtocolError
from tccp.model import NodeName, spki_sha256
from tccp.protocol import binding
from tccp.protocol.binding import Channel
from tccp.protocol.messages import (
    PROTOCOL_VERSION,
    Admitted,
    Challenge,
    Evidence,
    Hello,
    Refused,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
    Revoked,
)
from tccp.protocol.session import Role, Session
from tccp.protocol.statements import IdentityStatement
from tccp.store import ConflictError, EventDraft, EventKind, LeaseRecord, Renewal
from tccp.transport.connection import Connection, PeerGoneError, fresh_nonce, handshake

ANSWER_S = 30.0  # how long a nonce is good for
HELLO_S = 10.0
REFUSAL_SEND_S = 5.0
# A node that keeps trying is logged once, and again when the reason changes or this has passed.
REFUSAL_REPEAT_MS = 600_000

log = structlog.get_logger()


@dataclass(slots=True)
class Lease:
    """An open lease as its session holds it."""

    record: LeaseRecord
    identity: IdentityStatement
    ak: AkKey
    deadline: float  # trio time; the store has the wall-clock one


async def serve_node(services: Services, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
    """Serve one node from its TLS handshake to the end of its connection. Never raises what a peer can cause."""
    address = _address(stream)
    async with stream:
        try:
            tls = await handshake(stream, context, server_side=True)
            own = spki_sha256(services.identity.tls_spki)
            connection = Connection(tls, Session(Role.COORDINATOR), own_spki_sha256=own)
            await _serve(services, connection, address)
        except PeerGoneError as problem:
            log.debug("node_gone", address=address, detail=problem.detail)
        except ProtocolError as problem:
            log.info("protocol_error", address=address, reason=problem.reason, detail=problem.detail)
        except HostError as problem:
            log.error("session_failed", address=address, reason=problem.reason, detail=problem.detail)


async def _serve(services: Services, connection: Connection, address: str) -> None:
    channel = connection.channel(services.coordinator_id, own_end_is_coordinator=True)
    with _silence_after(HELLO_S):
        hello = await connection.receive(Hello)
    node: KnownNode | None = None
    try:
        _check_version(hello)
        node = await identify(hello, store=services.store, authorities=services.authorities, now=services.clock.now())
        lease = await register(services, connection, channel, hello, node)
    except (EvidenceError, ConflictError) as problem:
        await _refuse(services, connection, address, node.record.name if node else None, problem)
        return
    session = NodeSession(lease.record.node, address, lease.record.policy_version)
    services.sessions.open(session)
    try:
        await keep_lease(services, connection, channel, session, lease)
    except (EvidenceError, ConflictError) as problem:
        await _end(services, lease, problem.reason)
        await _refuse(services, connection, address, lease.record.node, problem)
    finally:
        services.sessions.close(session)


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
    activation = challenge_ak(hello.ak_public, ek=node.ek, secret=os.urandom(32))
    own = await services.evidence.evidence_for(binding.coordinator_leaf(hello.node_nonce, channel))
    nonce = fresh_nonce()
    await connection.send(
        Challenge(
            coordinator=own,
            id_object=activation.id_object,
            encrypted_secret=activation.encrypted_secret,
            nonce=nonce.value,
            bank=int(policy.bank),
            pcr_indexes=policy.selection.indexes,
        )
    )
    with _silence_after(ANSWER_S):
        evidence = await connection.receive(Evidence)
    ak: BoundAk = confirm_activation(activation, evidence.credential)
    key = AkKey.from_tpm_public(ak.ak_public)
    quote = await services.verifier.verify(
        QuoteClaim(
            evidence.attest,
            evidence.signature,
            claimed_pcrs(policy.selection, evidence.pcrs),
            ak=key,
            qualifying_data=binding.registration(nonce.value, channel, evidence.identity),
        )
    )
    identity = check_identity(evidence.identity, node=node, tls_spki=connection.peer_spki)
    platform = policy.judge(quote)
    explain_event_log(evidence.event_log, quote)
    grant = grant_lease(
        platform,
        identity,
        evidence.identity,
        ak_name=ak.ak_name,
        node=node.record,
        own=services.identity,
        now_ms=services.clock.now_ms(),
        lease_s=services.config.leases.seconds,
        tls_spki_sha256=connection.peer_spki_sha256,
    )
    return await _admit(services, connection, grant, identity, key)


async def _admit(
    services: Services, connection: Connection, grant: Grant, identity: IdentityStatement, key: AkKey
) -> Lease:
    record = grant.record
    deadline = trio.current_time() + services.config.leases.seconds
    body = event_body(
        lease_id=record.lease_id,
        policy=record.policy,
        policy_version=record.policy_version,
        boot_id=record.boot_id,
        tls_spki_sha256=record.tls_spki_sha256,
        software=identity.software,
    )
    log_index = await services.store.admit(record, body)
    services.sessions.counters.registrations += 1
    services.sessions.refusals.pop(record.node, None)
    log.info("admitted", node=str(record.node), lease=record.lease_id.hex(), policy=record.policy)
    await connection.send(
        Admitted(
            lease_id=record.lease_id,
            lease_s=services.config.leases.seconds,
            certificate=grant.certificate,
            log_index=log_index,
        )
    )
    return Lease(record, identity, key, deadline)


async def keep_lease(
    services: Services, connection: Connection, channel: Channel, session: NodeSession, lease: Lease
) -> None:
    """Challenge the node again and again, before half of its lease is over, until it is revoked or leaves.

    Raises:
        EvidenceError: The new evidence does not hold, or the platform is none that the policy names any more.
        ConflictError: The store holds no such lease any more.
        PeerGoneError: The node left; its lease holds until it ends.
    """
    while True:
        with session.wait_scope(lease.deadline - services.config.leases.seconds / 2):
            await connection.receive(RenewalEvidence)  # nothing may be said now: this ends in an error, or in time
        if session.revoked_reason is not None:
            with trio.move_on_after(REFUSAL_SEND_S):
                await connection.send(Revoked(reason="revoked"))
            return
        session.challenge_now = False
        await renew(services, connection, channel, session, lease)


async def renew(
    services: Services, connection: Connection, channel: Channel, session: NodeSession, lease: Lease
) -> None:
    """One renewal: challenge, quote, verdict. Raises as `keep_lease` does."""
    policy = await _policy_of(services, lease.record.node)
    nonce = fresh_nonce()
    asked_at = trio.current_time()
    await connection.send(
        RenewalChallenge(
            lease_id=lease.record.lease_id,
            nonce=nonce.value,
            bank=int(policy.bank),
            pcr_indexes=policy.selection.indexes,
        )
    )
    with _silence_after(min(ANSWER_S, lease.deadline - asked_at)):
        evidence = await connection.receive(RenewalEvidence)
    quote = await services.verifier.verify(
        QuoteClaim(
            evidence.attest,
            evidence.signature,
            claimed_pcrs(policy.selection, evidence.pcrs),
            ak=lease.ak,
            qualifying_data=binding.renewal(nonce.value, channel, lease.record.lease_id, lease.record.identity),
        )
    )
    check_same_boot(lease.record, quote)
    platform = policy.judge(quote)
    # The lease counts from the moment of asking: the quote is no younger than that.
    lease_s = services.config.leases.seconds
    now_ms = services.clock.now_ms()
    expires_ms = now_ms + int(1000 * (asked_at + lease_s - trio.current_time()))
    record = lease.record
    await services.store.renew(
        Renewal(
            lease_id=record.lease_id,
            at_ms=now_ms,
            expires_ms=expires_ms,
            reset_count=quote.reset_count,
            restart_count=quote.restart_count,
            clock_ms=quote.clock_ms,
            policy=platform.policy_name,
            policy_version=platform.policy_version,
        )
    )
    lease.deadline = asked_at + lease_s
    session.policy_version = platform.policy_version
    services.sessions.counters.renewals += 1
    certificate = lease_certificate(services.identity, lease.identity, now_ms=now_ms, expires_ms=expires_ms)
    await connection.send(Renewed(lease_id=record.lease_id, lease_s=lease_s, certificate=certificate))


async def _policy_of(services: Services, node: NodeName) -> PcrPolicy:
    record = await services.store.node_by_name(node)
    if record is None:
        raise PolicyError("not_enrolled", f"{node} was removed from the record")
    return services.policies.get(record.policy)


async def _end(services: Services, lease: Lease, reason: str) -> None:
    """End a lease whose renewal failed; it may have been ended by somebody else."""
    with contextlib.suppress(ConflictError):
        await services.store.end_lease(lease.record.lease_id, reason, services.clock.now_ms())


async def _refuse(
    services: Services,
    connection: Connection,
    address: str,
    node: NodeName | None,
    problem: EvidenceError | ConflictError,
) -> None:
    """Record the refusal, then tell the node as much as it may know."""
    services.sessions.counters.refusals += 1
    log.warning("refused", node=str(node or ""), address=address, reason=problem.reason, detail=problem.detail)
    if node is not None:
        await _record_refusal(services, node, problem)
    with trio.move_on_after(REFUSAL_SEND_S):
        await connection.send(Refused(reason=problem.reason))


async def _record_refusal(services: Services, node: NodeName, problem: EvidenceError | ConflictError) -> None:
    now_ms = services.clock.now_ms()
    before = services.sessions.refusals.get(node)
    repeated = before and before.reason == problem.reason and now_ms - before.logged_ms < REFUSAL_REPEAT_MS
    logged_ms = before.logged_ms if before and repeated else now_ms
    services.sessions.refusals[node] = Refusal(now_ms, problem.reason, problem.detail, logged_ms)
    if not repeated:
        body = event_body(reason=problem.reason, detail=problem.detail[:1024])
        await services.store.append_event(EventDraft(now_ms, EventKind.REFUSE, node, body))


@contextlib.contextmanager
def _silence_after(seconds: float) -> Iterator[None]:
    """A peer that says nothing for *seconds* is gone."""
    try:
        with trio.fail_after(max(seconds, 0.0)):
            yield
    except trio.TooSlowError:
        raise PeerGoneError("peer_gone", f"no answer in {seconds:.0f} s") from None


def _address(stream: trio.SocketStream) -> str:
    try:
        host, port, *_ = stream.socket.getpeername()
    except (OSError, ValueError):
        return "unknown"
    return f"{host}:{port}"
