"""Keys for VMs: what the coordinator does when an admitted node shows a ticket, for a start or to resume.

    key_request --> ticket: signed, for us, valid now --> its keys open --> one transaction: tenant, lease, evidence,
                    policy, single use, or newest suspended state; owner --> the event is in the published log
                --> keys wrapped to the node's boot

Nothing of it waits for anything else that the node says: each request is a task of its own.
"""

import structlog
import trio

from tccp.coordinator.attributes import attested
from tccp.coordinator.ending import record_report
from tccp.coordinator.moving import Moves
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services
from tccp.coordinator.sessions import NodeSession
from tccp.errors import ConfigError, EvidenceError, HostError, LaunchError, PolicyError, ProtocolError
from tccp.image.entrusting import unwrap_keys, wrap_keys
from tccp.image.keys import RecipientPublicKey
from tccp.protocol.messages import (
    KeyRefused,
    KeyRelease,
    KeyRequest,
    MoveArrived,
    MovePrepared,
    MoveRequest,
    MoveStayed,
    MoveWiped,
    NodeReport,
    NodeRequest,
    ResumeRequest,
    VmAnswer,
)
from tccp.protocol.statements import decode_identity
from tccp.protocol.ticket import (
    VerifiedTicket,
    check_addressee,
    check_validity,
    keys_info,
    release_info,
    verify_ticket,
)
from tccp.store import ConflictError, KeyClaim, MoveRecord, VmRecord

REQUESTS_MAX = 16  # of one node at once
MOVE_REPORTS_MAX = 512  # what may be answered only when another node has spoken is not in the way of the rest
MOVE_REPORTS = MoveArrived | MoveWiped | MoveStayed
# Refusals that fresh evidence may turn into a release.
STALE = frozenset({"evidence_old", "policy_changed"})
ASKED_AGAIN_MAX = 3  # an answer may be under way already, and the policy may change

log = structlog.get_logger()


class Launches:
    """Requests for keys, of all sessions; `run` must be running."""

    def __init__(self, services: Services, renewals: Renewals) -> None:
        self._services, self._renewals, self._moves = services, renewals, Moves(services)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Work on requests, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def take(self, session: NodeSession, message: NodeRequest | NodeReport) -> None:
        """Begin to work on what *session*'s node asks or says; what it says again meanwhile has the same answer.

        Raises:
            ProtocolError: ``too_many_requests``: it does not wait for answers.
        """
        assert self._nursery is not None
        if message in session.working_on:
            return
        is_of_move = isinstance(message, MOVE_REPORTS)
        most = MOVE_REPORTS_MAX if is_of_move else REQUESTS_MAX
        if sum(isinstance(other, MOVE_REPORTS) is is_of_move for other in session.working_on) >= most:
            raise ProtocolError("too_many_requests", f"more than {most} at once")
        session.working_on.add(message)
        self._nursery.start_soon(self._work, session, message)

    def remind(self, session: NodeSession) -> None:
        """A node is there again: tell it which of its VMs are to move."""
        assert self._nursery is not None
        self._nursery.start_soon(self._remind, session)

    async def _remind(self, session: NodeSession) -> None:
        with session.contained():
            await self._moves.remind(session)

    async def _work(self, session: NodeSession, message: NodeRequest | NodeReport) -> None:
        with session.contained():
            try:
                await session.connection.send(await self._answer(session, message))
            except HostError as problem:
                # The store or the connection failed; the node asks again.
                log.warning("not_answered", node=str(session.node), reason=problem.reason, detail=problem.detail)
            finally:
                session.working_on.discard(message)

    async def _answer(self, session: NodeSession, message: NodeRequest | NodeReport) -> VmAnswer:
        if isinstance(message, NodeRequest):
            return await self._keys(session, message)
        if isinstance(message, MOVE_REPORTS):
            return await self._moves.record(session, message)
        return await record_report(self._services, session, message)

    async def _keys(self, session: NodeSession, request: NodeRequest) -> KeyRelease | MovePrepared | KeyRefused:
        try:
            return await self._release(session, request)
        except (EvidenceError, ConflictError) as problem:
            self._services.sessions.counters.key_refusals.add(problem.reason)
            log.warning("key_refused", node=str(session.node), reason=problem.reason, detail=problem.detail)
            return KeyRefused(nonce=request.nonce, reason=problem.reason)

    async def _release(self, session: NodeSession, request: NodeRequest) -> KeyRelease | MovePrepared:
        services = self._services
        verified = verify_ticket(request.ticket, request.signature)
        ticket = verified.ticket
        check_addressee(verified, services.coordinator_id)
        await self._check_validity(verified, request)
        # Before the ticket is used up: a ticket whose keys do not open shall not be.
        keys = unwrap_keys(
            ticket.wrapped_keys,
            services.identity.keys.release_key,
            keys_info(ticket.tenant_key, ticket.vm_id, ticket.images),
            count=1 + len(ticket.images),
        )
        node_key = _boot_key(session)
        record = await self._decide(session, verified, request)
        if isinstance(record, MoveRecord):
            info = release_info(
                verified.sha256, ticket.vm_id, record.epoch + 1, session.lease.record.lease_id, request.nonce
            )
            return await self._moves.prepared(record, wrap_keys(keys, node_key, info))
        receipt = await services.log.receipt(record.seq)
        lease_id = session.lease.record.lease_id
        info = release_info(verified.sha256, ticket.vm_id, record.epoch, lease_id, request.nonce)
        services.sessions.counters.releases += 1
        resumed = isinstance(request, ResumeRequest)
        takes_any = ticket.disk_state == "any" and not resumed
        word = "resumed" if resumed else "released"
        log.info(word, node=str(session.node), vm=ticket.vm_id.hex(), epoch=record.epoch)
        return KeyRelease(
            nonce=request.nonce,
            vm_id=ticket.vm_id,
            epoch=record.epoch,
            wrapped_keys=wrap_keys(keys, node_key, info),
            disk_root=b"" if takes_any else record.disk_root or b"",
            generation=record.generation if resumed else 0,
            state_root=(record.state_root or b"") if resumed else b"",
            marks=b"" if takes_any else record.marks or b"",
            receipt=receipt,
        )

    async def _decide(
        self, session: NodeSession, verified: VerifiedTicket, request: NodeRequest
    ) -> VmRecord | MoveRecord:
        """The transaction, after fresh evidence where that is what is missing.

        Evidence is as old as the challenge that it answers: what was quoted before a node was tampered with may come in
        and be judged after that.
        """
        age_s = self._services.config.releases.evidence_age_s
        asked_since = trio.current_time() - age_s
        since_ms = max(self._services.clock.now_ms() - 1000 * age_s, 0)
        for _ in range(ASKED_AGAIN_MAX):
            if session.lease.asked_at >= asked_since:
                try:
                    return await self._own(session, verified, request, since_ms)
                except ConflictError as refusal:
                    if refusal.reason not in STALE:
                        raise
            await self._renewals.fresh_evidence(session)
        if session.lease.asked_at < asked_since:
            raise PolicyError("no_fresh_evidence", f"{session.node} has not quoted again")
        return await self._own(session, verified, request, since_ms)

    async def _own(
        self, session: NodeSession, verified: VerifiedTicket, request: NodeRequest, since_ms: int
    ) -> VmRecord | MoveRecord:
        ticket = verified.ticket
        if session.ended:  # who asks again on another connection gets it there; nobody else would run it
            raise HostError("node_gone", str(session.node))
        await self._check_validity(verified, request)
        now_ms, said = self._services.clock.now_ms(), attested(self._services, session)
        if said is None:  # what was asserted would count where evidence says otherwise
            raise ConflictError("policy_changed", f"{session.node}: not judged by the policy in force yet")
        claim = KeyClaim(
            ticket=verified.sha256,
            tenant_key=ticket.tenant_key,
            vm_id=ticket.vm_id,
            images=b"".join(image.root for image in ticket.images),
            policy=ticket.policy.name,
            version_min=ticket.policy.version_min,
            attributes=ticket.attributes,
            attested_demands=ticket.policy.attested,
            attested=said.attributes,
            attested_by=(said.policy, said.version),
            lease_id=session.lease.record.lease_id,
            nonce=request.nonce,
            at_ms=now_ms,
            evidence_since_ms=since_ms,
            gives_up_state=ticket.disk_state == "any",
            may_roll_back="rollback" in ticket.permissions,
            state_root=request.state_root if isinstance(request, ResumeRequest) else b"",
        )
        if isinstance(request, ResumeRequest):
            return await self._services.store.resume(claim)
        if isinstance(request, MoveRequest):
            return await self._services.store.prepare_move(claim, request.address)
        return await self._services.store.release(claim)

    async def _check_validity(self, verified: VerifiedTicket, request: NodeRequest) -> None:
        """What a valid ticket has started may go on after that; also where its node asks again for a lost answer."""
        if isinstance(request, KeyRequest):
            record = await self._services.store.vm(verified.ticket.vm_id)
            if record is None or record.ticket != verified.sha256:
                check_validity(verified, self._services.clock.now_ms())


def _boot_key(session: NodeSession) -> RecipientPublicKey:
    """The key of this boot of the node, from the identity statement that its quote covers."""
    key = RecipientPublicKey(decode_identity(session.lease.record.identity).hpke_key)
    try:
        key.hpke_key()
    except ConfigError as problem:
        raise LaunchError("node_key_malformed", problem.detail) from None
    return key
