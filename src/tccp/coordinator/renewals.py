"""Fresh evidence from every admitted node, again and again: the hot path of the coordinator.

    schedule --- RenewalChallenge --> node --- RenewalEvidence --> its session's task --+
       ^                                                                               | answers
       +------ next due <-- Renewed / Refused <-- store <-- policy <-- quotes <--------+ (a batch)

One task looks after all due times, one after all answers. A batch of answers costs one call of the C core, which
verifies eight signatures at once where the CPU can, one transaction, and no task is woken for a node but the one
that reads from it.
"""

import functools
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager

import structlog
import trio

from tccp.attestation.policy import TrustedPlatform
from tccp.attestation.quote import QuoteClaim, VerifiedQuote, verify_quotes
from tccp.bugs import contained
from tccp.coordinator.admission import check_same_boot, renew_lease
from tccp.coordinator.examination import judge_known
from tccp.coordinator.fan_out import tell_revoked
from tccp.coordinator.host_logs import logs_of
from tccp.coordinator.refusals import refuse
from tccp.coordinator.schedule import TICK_S, Schedule
from tccp.coordinator.services import Services
from tccp.coordinator.sessions import ANSWER_S, NodeSession, OpenChallenge, check_in_time
from tccp.coordinator.shadows import Shadow
from tccp.coordinator.trials import Trial
from tccp.coordinator.verifier import renewal_claim
from tccp.errors import EvidenceError, HostError, PolicyError, QuoteError
from tccp.model import NodeName
from tccp.protocol.messages import (
    HostLogPart,
    HostLogRequest,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
    Revoked,
)
from tccp.store import ConflictError, Renewal
from tccp.transport.connection import fresh_nonce
from tccp.transport.errors import PeerGoneError

BATCH_MAX = 256
JUDGES = 2  # one waits for the disk, the other for the C core
GATHER_S = 0.02  # answers this close together are judged at once
RETRY_S = 1.0  # after the store failed
SPREAD = 0.1  # of a lease: nodes that came together shall not renew together for ever

Answer = tuple[NodeSession, OpenChallenge, RenewalEvidence]
Verdict = tuple[NodeSession, OpenChallenge, VerifiedQuote, Renewal]

log = structlog.get_logger()


class Renewals:
    """Challenges, verdicts and ends of all sessions; `run` must be running."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._schedule = Schedule()
        self._answers: list[Answer] = []
        self._answered = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Look after all sessions, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._keep_schedule)
            for _ in range(JUDGES):
                self._nursery.start_soon(self._give_verdicts)

    # ---- from outside

    async def add(self, session: NodeSession) -> None:
        """Look after a session whose lease was just granted; what has happened since that transaction counts.

        Raises:
            StoreError: The record cannot be read.
        """
        store = self._services.store
        node, lease = await store.node_by_name(session.node), await store.open_lease(session.node)
        if node is None or lease is None or lease.lease_id != session.lease.record.lease_id:
            self._send(session, Revoked(reason="revoked"))
            session.scope.cancel()
            return
        session.policy = node.policy
        self._services.sessions.open(session)
        self._plan_next(session, lease.policy)

    def answer(self, session: NodeSession, evidence: RenewalEvidence) -> None:
        """Take what *session*'s node answered; the protocol has seen to it that it was asked.

        Raises:
            PeerGoneError: Too late.
        """
        challenge = session.challenge
        assert challenge is not None
        check_in_time(challenge.asked_ms, self._services.clock.now_ms())
        session.challenge, session.due = None, math.inf
        self._answers.append((session, challenge, evidence))
        self._answered.set()

    def take_part(self, session: NodeSession, part: HostLogPart) -> None:
        """Take a part of a log of *session*'s node; the protocol has seen to it that it was asked for."""
        if session.parts is not None:
            session.parts.send_nowait(part.content)

    def ask_now(self, sessions: Iterable[NodeSession]) -> None:
        """Challenge these nodes now, whatever is left of their leases."""
        now = trio.current_time()
        for session in sessions:
            # Whoever is being asked or judged meets the new policy in the store's transaction.
            if session.challenge is None and session.due < math.inf:
                self._schedule.plan(session, now)

    def try_on(self, sessions: list[NodeSession], trial: Trial) -> None:
        """Have *trial* judge these nodes beside; one that is being asked or judged is asked after that."""
        for session in sessions:
            session.trial = trial
        self.ask_now(sessions)

    async def fresh_evidence(self, session: NodeSession) -> None:
        """Have *session*'s node quote, and return when an answer is judged and stored.

        It may be one to a challenge that was under way already: `Lease.asked_at` says how old it is.

        Raises:
            PolicyError: ``no_fresh_evidence``: it does not come in time, or does not hold.
        """
        renewed = session.until_renewed()
        if not session.ended:
            self.ask_now([session])
            with trio.move_on_after(ANSWER_S):
                await renewed.wait()
        if session.ended or not renewed.is_set():
            raise PolicyError("no_fresh_evidence", f"{session.node} has not quoted, or its quote did not hold")

    def revoke(self, node: NodeName, seq: int) -> None:
        """Begin to tell *node*, whose lease was ended by event *seq*, that it is out."""
        session = self._services.sessions.get(node)
        session = None if session is None or session.ended else session
        if session is not None:
            session.revoked = True
        self._start(lambda: tell_revoked(self._services, node, session, seq), contained("telling_bug", node=str(node)))

    # ---- the schedule

    def _plan_next(self, session: NodeSession, judged_by: str) -> None:
        if session.trial is not None or not self._is_in_force(session, judged_by):
            self._schedule.plan(session, trio.current_time())
            return
        lease_s = self._services.config.leases.seconds
        early = random.uniform(0.0, SPREAD) * lease_s  # noqa: S311 - spreads load, keeps no secret
        self._schedule.plan(session, session.lease.deadline - lease_s / 2 - early)

    def _is_in_force(self, session: NodeSession, policy: str) -> bool:
        """Whether the policy that judged a node last is still the one that judges it."""
        try:
            return policy == session.policy and session.policy_version == self._services.policies.get(policy).version
        except EvidenceError:
            return False

    async def _keep_schedule(self) -> None:
        while True:
            for session in self._schedule.due():
                with session.contained():
                    self._is_due(session)
            await self._schedule.wait()

    def _is_due(self, session: NodeSession) -> None:
        now = trio.current_time()
        if session.challenge is not None:
            log.warning("no_answer", node=str(session.node), address=session.address)
            session.scope.cancel()  # the lease ends in its time
            return
        try:
            policy = session.trial.policy if session.trial else self._services.policies.get(session.policy)
        except EvidenceError as problem:
            self._start_failing(session, problem)
            return
        if session.trial is not None:
            shadow, selection = None, policy.selection
        else:
            shadow, selection = self._services.shadows.beside(policy)
        lease_s = self._services.config.leases.seconds
        asked_ms, nonce = self._services.clock.now_ms(), fresh_nonce().value
        session.challenge = OpenChallenge(nonce, now, asked_ms, policy, selection, lease_s, session.trial, shadow)
        session.trial = None
        self._schedule.plan(session, min(now + ANSWER_S, max(session.lease.deadline, now + TICK_S)))
        self._send(
            session,
            RenewalChallenge(
                lease_id=session.lease.record.lease_id,
                nonce=session.challenge.nonce,
                bank=int(selection.bank),
                pcr_indexes=selection.indexes,
            ),
        )

    def _send(self, session: NodeSession, message: RenewalChallenge | HostLogRequest | Renewed | Revoked) -> None:
        try:
            if not session.connection.send_nowait(message):
                self._start(lambda: self._flush(session), session.contained())
        except PeerGoneError:
            session.scope.cancel()

    async def _flush(self, session: NodeSession) -> None:
        try:
            with trio.fail_after(ANSWER_S):
                await session.connection.flush()
        except (PeerGoneError, trio.TooSlowError):
            session.scope.cancel()

    # ---- verdicts

    async def _give_verdicts(self) -> None:
        while True:
            await self._answered.wait()
            if len(self._answers) < BATCH_MAX:
                await trio.sleep(GATHER_S)
            batch, self._answers = self._answers[:BATCH_MAX], self._answers[BATCH_MAX:]
            if not self._answers:
                self._answered = trio.Event()
            if batch := [answer for answer in batch if not answer[0].ended]:
                # Who brings out a bug in what is done for all of a batch at once is not known: all of it comes back.
                with contained("verdicts_bug", end=functools.partial(_end_all, batch)):
                    await self._judge(batch)

    async def _judge(self, batch: list[Answer]) -> None:
        quotes = await self._verify(batch)
        renewals: list[Verdict] = []
        for (session, challenge, _), quote in zip(batch, quotes, strict=True):
            with session.contained():
                try:
                    renewals += self._verdict(session, challenge, quote)
                except EvidenceError as problem:
                    self._start_failing(session, problem)
        if renewals:
            await self._store(renewals)

    def _verdict(
        self, session: NodeSession, challenge: OpenChallenge, quote: VerifiedQuote | EvidenceError
    ) -> list[Verdict]:
        """The good one, if nothing more than the quote is needed for it; else it comes later."""
        if isinstance(quote, EvidenceError):
            raise quote
        check_same_boot(session.lease.record, quote)
        policy, known = challenge.policy, session.lease.boot
        judged = quote.of(policy.selection)
        platform = judge_known(policy, judged, known) if challenge.trial is None else None
        if platform is None:
            self._start(lambda: self._examine(session, challenge, quote), session.contained())
            return []
        return [(session, challenge, quote, self._renewal(session, challenge, platform))]

    async def _store(self, renewals: list[Verdict]) -> None:
        try:
            refusals = await self._services.store.renew_all([renewal for *_, renewal in renewals])
        except HostError as problem:
            log.error("renewals_not_stored", reason=problem.reason, detail=problem.detail, nodes=len(renewals))
            for session, *_ in renewals:
                self._schedule.plan(session, trio.current_time() + RETRY_S)
            return
        for (session, challenge, quote, renewal), refusal in zip(renewals, refusals, strict=True):
            with session.contained():
                self._renewed(session, challenge, quote, renewal, refusal)

    async def _verify(self, batch: list[Answer]) -> list[VerifiedQuote | EvidenceError]:
        claims: list[QuoteClaim | EvidenceError] = []
        for session, challenge, evidence in batch:
            try:
                claims.append(renewal_claim(session, challenge, evidence))
            except QuoteError as problem:
                claims.append(problem)
        asked = [claim for claim in claims if isinstance(claim, QuoteClaim)]
        verdicts = iter(await trio.to_thread.run_sync(verify_quotes, asked))
        return [next(verdicts) if isinstance(claim, QuoteClaim) else claim for claim in claims]

    async def _examine(self, session: NodeSession, challenge: OpenChallenge, quote: VerifiedQuote) -> None:
        """Judge an answer for which a log of the host is needed, too, or by a policy that is only tried."""
        if session.ended:
            return
        examiner, known = self._services.examiner, session.lease.boot
        platform: TrustedPlatform | None = None
        try:
            with logs_of(session, self._send) as fetch:
                if challenge.trial is not None:
                    await challenge.trial.judge(examiner, session.node, quote, known, fetch)
                    self._schedule.plan(session, trio.current_time())  # now by the policy in force
                else:
                    judged = quote.of(challenge.policy.selection)
                    platform = await examiner.examine(challenge.policy, judged, known, fetch, node=session.node)
        except EvidenceError as problem:
            self._start_failing(session, problem)
        if platform is not None:
            for warning in platform.warnings:
                log.warning("policy_warning", node=str(session.node), policy=platform.policy_name, detail=warning)
            await self._store([(session, challenge, quote, self._renewal(session, challenge, platform))])

    async def _examine_beside(
        self, session: NodeSession, challenge: OpenChallenge, shadow: Shadow, quote: VerifiedQuote, renewal: Renewal
    ) -> None:
        """Have a version in the shadow see the logs that it needs. The lease is renewed in the record already."""
        if session.ended:
            return
        with logs_of(session, self._send) as fetch:
            known, at_ms = session.lease.boot_in_shadow, renewal.at_ms
            await self._services.shadows.examine(
                shadow, session.node, quote, fetch, known=known, at_ms=at_ms, lease_s=challenge.lease_s
            )
        if not session.ended:
            self._grant(session, challenge, renewal)

    def _renewal(self, session: NodeSession, challenge: OpenChallenge, platform: TrustedPlatform) -> Renewal:
        """The lease counts from the moment of asking: the quote is no older than that."""
        now_ms, lease_id = self._services.clock.now_ms(), session.lease.record.lease_id
        ends_in_s = challenge.lease_s - (now_ms - challenge.asked_ms) / 1000
        return renew_lease(platform, lease_id, now_ms=now_ms, ends_in_s=ends_in_s)

    def _renewed(
        self,
        session: NodeSession,
        challenge: OpenChallenge,
        quote: VerifiedQuote,
        renewal: Renewal,
        refusal: ConflictError | None,
    ) -> None:
        if session.ended:
            return
        if refusal is not None:
            if refusal.reason == "policy_changed":  # while it answered; ask again, by the new one
                self._schedule.plan(session, trio.current_time())
            else:
                self._start_failing(session, refusal)
            return
        session.lease.deadline = challenge.asked_at + challenge.lease_s
        session.lease.asked_at = challenge.asked_at
        session.judged_by, session.policy_version = renewal.policy, renewal.policy_version
        session.tell_renewed()
        self._services.sessions.counters.renewals += 1
        shadow = challenge.shadow
        if shadow is None or self._services.shadows.judge(
            shadow,
            session.node,
            quote,
            known=session.lease.boot_in_shadow,
            in_force=session.lease.boot,
            at_ms=renewal.at_ms,
        ):
            self._grant(session, challenge, renewal)
        else:
            self._start(lambda: self._examine_beside(session, challenge, shadow, quote, renewal), session.contained())

    def _grant(self, session: NodeSession, challenge: OpenChallenge, renewal: Renewal) -> None:
        certificate = session.lease.certificates.issue(not_before_ms=renewal.at_ms, not_after_ms=renewal.expires_ms)
        self._send(session, Renewed(lease_id=renewal.lease_id, lease_s=challenge.lease_s, certificate=certificate))
        self._plan_next(session, renewal.policy)

    # ---- the end

    def _start_failing(self, session: NodeSession, problem: EvidenceError | ConflictError) -> None:
        session.due = math.inf
        self._start(lambda: self._fail(session, problem), session.contained())

    async def _fail(self, session: NodeSession, problem: EvidenceError | ConflictError) -> None:
        """The node is out: its lease ends in the record first, then it is told, then its connection ends."""
        services = self._services
        try:
            await services.store.end_lease(session.lease.record.lease_id, problem.reason, services.clock.now_ms())
        except ConflictError as already:
            log.debug("lease_already_ended", node=str(session.node), reason=already.reason)
        except HostError as failed:
            # The record says so when it lapses; nothing is entrusted to the node before that either: it has no session.
            log.error("lease_end_not_stored", node=str(session.node), reason=failed.reason)
        try:
            await refuse(services, session.connection, session.address, session.node, problem)
        except HostError as failed:
            log.info("refusal_not_told", node=str(session.node), reason=failed.reason)
        finally:
            session.scope.cancel()

    def _start(self, work: Callable[[], Awaitable[None]], bounds: AbstractContextManager[None]) -> None:
        """Begin what may take a while, within *bounds*."""
        assert self._nursery is not None

        async def work_within_bounds() -> None:
            with bounds:
                await work()

        self._nursery.start_soon(work_within_bounds)


def _end_all(batch: list[Answer]) -> None:
    for session, *_ in batch:
        session.scope.cancel()
