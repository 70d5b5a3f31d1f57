"""From a verified quote to a trusted platform: what a policy needs of the host is fetched, judged and remembered.

A policy of PCR values needs the quote alone. A measured-boot policy needs the firmware's log once, and then only when a
boot PCR or the policy is another; one that names an IMA policy needs of the list what came since the last quote.
Decision 0035.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.boot_policy import AnyPolicy, BootPolicy
from tccp.attestation.boot_verdict import JudgedBoot, judge_again, remember_boot
from tccp.attestation.ima import AcceptedMeasurements, ImaProgress
from tccp.attestation.ima_parts import ListInParts
from tccp.attestation.policy import PcrPolicy, TrustedPlatform
from tccp.attestation.quote import VerifiedQuote
from tccp.coordinator.ima_policies import ImaPolicies
from tccp.coordinator.measured_before import MeasuredBefore
from tccp.errors import ImaError, PolicyError
from tccp.model import IMA_PCR, NodeName
from tccp.protocol import fields as f
from tccp.protocol.messages import FIRMWARE_LOG, IMA_LIST

PATIENCE_S = 120.0  # for all that a verdict needs: evidence does not grow old while a list goes on and on
# Hosts whose lists are on their way, of those that register and of those that are admitted; each part is in memory
# until it is judged.
AT_ONCE = 64
# Threads that judge logs, likewise. A log may take a second: quotes, and all else that needs a thread, wait for none.
JUDGES = 4

# Asks a host for one of its logs from an offset on: ``await fetch(IMA_LIST, 0)``.
Fetch = Callable[[f.HostLog, int], Awaitable[bytes]]

log = structlog.get_logger()

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(slots=True)
class KnownBoot:
    """What a session remembers of the boot of its node: a few hundred bytes, and nothing after the session."""

    judged: JudgedBoot | None = None
    accepted: AcceptedMeasurements | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the policy would rather not see."""
        return self.judged.warnings if self.judged is not None else ()


def judge_known(policy: AnyPolicy, quote: VerifiedQuote, known: KnownBoot) -> TrustedPlatform | None:
    """The platform behind *quote*, if nothing more than the quote is needed to say so; None: `Examiner.examine`.

    Raises:
        PolicyError: The policy does not allow it.
    """
    if isinstance(policy, PcrPolicy):
        platform = policy.judge(quote)
        known.judged = known.accepted = None  # what another policy said of it
        return platform
    accepted = known.accepted
    if policy.ima_sha256 is not None and not _is_of(accepted, policy, quote):
        return None
    return judge_again(policy, quote, known.judged, accepted)


class _Room:
    """How many hosts are examined at once, and how many threads judge what they show."""

    def __init__(self) -> None:
        self.places, self._judges = trio.CapacityLimiter(AT_ONCE), trio.CapacityLimiter(JUDGES)

    async def judge(self, judge: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(judge, *args, limiter=self._judges)


class Examiner:
    """Examines hosts, some at once.

    Args:
        ima: The compiled policies.
        before: How far measurements were accepted in earlier sessions.
    """

    def __init__(self, ima: ImaPolicies, before: MeasuredBefore) -> None:
        self.ima, self._before = ima, before
        # Whoever registers may be slow on purpose, on as many connections as it likes: no admitted host waits for it.
        self._registering, self._admitted = _Room(), _Room()

    async def examine(
        self,
        policy: AnyPolicy,
        quote: VerifiedQuote,
        known: KnownBoot,
        fetch: Fetch,
        *,
        event_log: bytes | None = None,
        node: NodeName | None = None,
    ) -> TrustedPlatform:
        """The platform behind *quote* as one that *policy* trusts; *known* is brought up to date with the verdict.

        Args:
            event_log: The firmware's log, if the host has sent it already: one that registers.
            node: Whose host it is, if what earlier sessions know of it counts, and this verdict shall count later.

        Raises:
            EvidenceError: The policy does not allow it; a log does not explain what was quoted.
            Whatever *fetch* raises.
        """
        platform = judge_known(policy, quote, known)
        if platform is not None:
            return platform
        assert isinstance(policy, BootPolicy)
        accepted = known.accepted
        room = self._registering if event_log is not None else self._admitted
        if policy.ima_sha256 is not None and not _is_of(accepted, policy, quote):
            accepted = await self._measurements(policy, quote, accepted, fetch, node=node, room=room)
        platform = judge_again(policy, quote, known.judged, accepted)
        if platform is None:
            content = event_log if event_log is not None else await fetch(FIRMWARE_LOG, 0)
            platform = await room.judge(judge_boot, policy, quote, content, accepted)
            known.judged = remember_boot(policy, platform)
        known.accepted = accepted
        if node is not None and accepted is not None:
            self._before.note(node, quote, accepted)
        return platform

    async def _measurements(
        self,
        policy: BootPolicy,
        quote: VerifiedQuote,
        accepted: AcceptedMeasurements | None,
        fetch: Fetch,
        *,
        node: NodeName | None,
        room: _Room,
    ) -> AcceptedMeasurements:
        """What the host has measured since it was last accepted by the same IMA policy, or since its boot."""
        assert policy.ima_sha256 is not None
        compiled, start = self.ima.get(policy.ima_sha256), ImaProgress.start(policy.bank)
        if accepted is not None and accepted.policy_sha256 == policy.ima_sha256:
            return await self._take(ListInParts(compiled, accepted.progress, quote.pcrs), fetch, room)
        recalled = await self._before.recall(node, quote, policy.ima_sha256) if node is not None else None
        if recalled is not None:
            try:
                return await self._take(ListInParts(compiled, recalled, quote.pcrs), fetch, room)
            except (ImaError, PolicyError) as problem:  # it is only a shortcut
                log.info("measurements_recalled_in_vain", node=str(node), reason=problem.reason)
        return await self._take(ListInParts(compiled, start, quote.pcrs), fetch, room)

    async def _take(self, measured: ListInParts, fetch: Fetch, room: _Room) -> AcceptedMeasurements:
        if measured.is_all:
            found = measured.take(b"")
            assert found is not None
            return found
        async with room.places:
            before = measured.offset
            while True:
                part = await fetch(IMA_LIST, measured.offset)
                found = await room.judge(measured.take, part)
                if found is not None:
                    log.debug("measurements_accepted", new_bytes=found.progress.consumed_bytes - before)
                    return found


def _is_of(accepted: AcceptedMeasurements | None, policy: BootPolicy, quote: VerifiedQuote) -> bool:
    """Whether nothing was measured since *accepted*, which the policy's own IMA policy did."""
    return (
        accepted is not None
        and accepted.policy_sha256 == policy.ima_sha256
        and accepted.progress.pcr == quote.pcrs.values.get(IMA_PCR)
    )
