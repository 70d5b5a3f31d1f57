"""Versions of policies in the shadow of the one in force: each judges what that one judges, and decides nothing.

    quote of the PCRs of both --+-- version in force --> lease, or refusal
                                '-- version in its shadow --> a verdict that is only shown

It sees every registration and every renewal, of which the quote is the same: it costs a few more PCR values, no quote.
What it needs of the host beside is asked for once for a boot, after the verdict that counts is in the record.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import structlog
import trio

from tccp.attestation.boot_policy import AnyPolicy, BootPolicy, parse_any_policy
from tccp.attestation.policy import PcrPolicy
from tccp.attestation.quote import VerifiedQuote
from tccp.coordinator.admission import explain_event_log
from tccp.coordinator.examination import Examiner, Fetch, KnownBoot, judge_known
from tccp.errors import EvidenceError, PolicyError
from tccp.model import NodeName, PcrSelection
from tccp.protocol import fields as f
from tccp.store import PolicyRecord

# For what is asked of a host for its sake: its lease is renewed already, and the host is told so after that; so it must
# not take longer than what is left of the lease that the host knows of, which is nearly half of one.
PATIENCE_S = 20.0
PATIENCE_OF_LEASE = 0.25
DETAIL_CHARS_MAX = 512

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShadowVerdict:
    """What a version in the shadow says of a node: ``accepted``, ``refused``, ``no_answer``."""

    verdict: str
    reason: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()
    at_ms: int = 0


@dataclass(slots=True, eq=False)
class Shadow:
    """A version in the shadow, and its newest verdicts; those begin anew with each start of the coordinator."""

    policy: AnyPolicy
    since_ms: int
    verdicts: dict[NodeName, ShadowVerdict] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    silent: set[NodeName] = field(default_factory=set)  # did not show a log that was asked for: not asked again

    def note(self, node: NodeName, verdict: ShadowVerdict) -> None:
        """Take down the newest verdict on *node*."""
        before = self.verdicts.get(node)
        self.verdicts[node] = verdict
        if before is not None:
            if (before.verdict, before.reason) == (verdict.verdict, verdict.reason):
                return
            self._count(before, -1)
        self._count(verdict, 1)
        if verdict.verdict != "accepted":
            log.info(f"shadow_{verdict.verdict}", node=str(node), policy=str(self.policy), reason=verdict.reason)

    def _count(self, verdict: ShadowVerdict, step: int) -> None:
        self.counts[verdict.verdict] += step
        if verdict.reason:
            self.reasons[verdict.reason] += step


class Shadows:
    """The versions in a shadow, by the name of their policy, and how they judge.

    Args:
        examiner: Fetches and judges what the quote alone does not say.
    """

    def __init__(self, records: Iterable[PolicyRecord], examiner: Examiner) -> None:
        self._examiner = examiner
        self._by_name: dict[str, Shadow] = {}
        for record in records:
            self.put(parse_any_policy(record.body), record.added_ms)

    def __iter__(self) -> Iterator[Shadow]:
        """All of them."""
        return iter(self._by_name.values())

    def get(self, name: str) -> Shadow | None:
        """The one in the shadow of the policy called *name*."""
        return self._by_name.get(name)

    def policies(self) -> list[AnyPolicy]:
        """What each judges by."""
        return [shadow.policy for shadow in self._by_name.values()]

    def put(self, policy: AnyPolicy, since_ms: int) -> Shadow:
        """Judge by *policy* beside the version in force from now on."""
        shadow = self._by_name[policy.name] = Shadow(policy, since_ms)
        return shadow

    def drop(self, name: str) -> None:
        """Judge by it no more; challenges that are under way may still."""
        self._by_name.pop(name, None)

    def beside(self, policy: AnyPolicy) -> tuple[Shadow | None, PcrSelection]:
        """What judges beside *policy*, and the PCRs that both want to see; one of another bank sees nothing."""
        shadow = self._by_name.get(policy.name)
        if shadow is None or shadow.policy.selection.bank is not policy.selection.bank:
            return None, policy.selection
        return shadow, _both(policy.selection, shadow.policy.selection)

    def judge(
        self, shadow: Shadow, node: NodeName, quote: VerifiedQuote, *, known: KnownBoot, in_force: KnownBoot, at_ms: int
    ) -> bool:
        """Note what *shadow* says of *node*; False: it has to see a log of the host first (`examine`).

        Args:
            known: What it remembers of the boot.
            in_force: What the version in force does: measurements that the same IMA policy accepted count for both.
        """
        policy = shadow.policy
        _share(policy, known, in_force)
        try:
            platform = judge_known(policy, quote.of(policy.selection), known)
        except EvidenceError as problem:
            shadow.note(node, _refused(problem, at_ms))
            return True
        if platform is not None:
            shadow.note(node, ShadowVerdict("accepted", warnings=platform.warnings, at_ms=at_ms))
            return True
        return node in shadow.silent

    async def examine(
        self,
        shadow: Shadow,
        node: NodeName,
        quote: VerifiedQuote,
        fetch: Fetch,
        *,
        known: KnownBoot,
        at_ms: int,
        lease_s: float,
    ) -> None:
        """As `judge`, with logs of the host. Raises what *fetch* does; then it does not ask this node again."""
        patience_s = min(PATIENCE_S, PATIENCE_OF_LEASE * lease_s)
        deadline = trio.current_time() + patience_s
        shadow.silent.add(node)
        shadow.note(node, ShadowVerdict("no_answer", at_ms=at_ms))

        async def fetch_in_time(name: f.HostLog, offset: int) -> bytes:
            if trio.current_time() > deadline:
                raise PolicyError("shadow_log_too_long", f"{offset} bytes in {patience_s:.1f} s, and no end")
            return await fetch(name, offset)

        await self._examine(shadow, node, quote, fetch_in_time, known=known, at_ms=at_ms)
        shadow.silent.discard(node)

    async def at_registration(
        self,
        shadow: Shadow,
        node: NodeName,
        quote: VerifiedQuote,
        event_log: bytes,
        *,
        in_force: KnownBoot,
        at_ms: int,
    ) -> KnownBoot:
        """Judge what a host shows of itself anyway; what needs more of IMA's list is judged at the first renewal.

        Returns:
            What it remembers of the boot.
        """
        policy, known = shadow.policy, KnownBoot()
        _share(policy, known, in_force)
        if isinstance(policy, PcrPolicy):
            try:
                explain_event_log(event_log, quote.of(policy.selection))
            except EvidenceError as problem:
                shadow.note(node, _refused(problem, at_ms))
                return known
        if not (isinstance(policy, BootPolicy) and policy.ima_sha256 is not None and known.accepted is None):
            await self._examine(shadow, node, quote, _show_nothing, known=known, at_ms=at_ms, event_log=event_log)
        return known

    async def _examine(
        self,
        shadow: Shadow,
        node: NodeName,
        quote: VerifiedQuote,
        fetch: Fetch,
        *,
        known: KnownBoot,
        at_ms: int,
        event_log: bytes | None = None,
    ) -> None:
        policy = shadow.policy
        try:
            platform = await self._examiner.examine(
                policy, quote.of(policy.selection), known, fetch, event_log=event_log
            )
        except EvidenceError as problem:
            shadow.note(node, _refused(problem, at_ms))
        else:
            shadow.note(node, ShadowVerdict("accepted", warnings=platform.warnings, at_ms=at_ms))


def _share(policy: AnyPolicy, known: KnownBoot, in_force: KnownBoot) -> None:
    accepted = in_force.accepted
    if accepted is not None and isinstance(policy, BootPolicy) and accepted.policy_sha256 == policy.ima_sha256:
        known.accepted = accepted


async def _show_nothing(name: f.HostLog, offset: int) -> bytes:
    raise AssertionError(f"{name} from {offset} on is not asked for at a registration")


def _refused(problem: EvidenceError, at_ms: int) -> ShadowVerdict:
    return ShadowVerdict("refused", problem.reason, problem.detail[:DETAIL_CHARS_MAX], at_ms=at_ms)


@functools.lru_cache(maxsize=256)
def _both(one: PcrSelection, other: PcrSelection) -> PcrSelection:
    return PcrSelection.of(one.bank, (*one.indexes, *other.indexes))
