"""Trying a policy on the nodes that are connected: whom would it refuse? It judges fresh quotes, and decides nothing.

A node is challenged for what the tried policy wants to see, and at once again for what the policy in force does, which
alone renews its lease. So a trial costs each node two quotes, and no node its lease.
"""

from collections.abc import Iterable

import trio

from tccp.attestation.boot_policy import AnyPolicy
from tccp.attestation.quote import VerifiedQuote
from tccp.coordinator.examination import Examiner, Fetch, KnownBoot
from tccp.errors import EvidenceError
from tccp.model import NodeName
from tccp.protocol.control import TriedNode

PATIENCE_S = 25.0  # less than whoever asks waits for an answer


class Trial:
    """One policy, tried on some nodes.

    Args:
        policy: Of either kind; whatever IMA policy it names is mapped.
        nodes: Who is asked.
    """

    def __init__(self, policy: AnyPolicy, nodes: Iterable[NodeName]) -> None:
        self.policy = policy
        self._waiting = set(nodes)
        self._verdicts: dict[NodeName, TriedNode] = {}
        self._done = trio.Event()

    async def judge(
        self, examiner: Examiner, node: NodeName, quote: VerifiedQuote, known: KnownBoot, fetch: Fetch
    ) -> None:
        """Note what the policy says of *node*; raises what *fetch* does."""
        boot = KnownBoot(accepted=known.accepted)  # what the policy in force knows of the host stays as it is
        try:
            platform = await examiner.examine(self.policy, quote, boot, fetch)
        except EvidenceError as problem:
            self._note(TriedNode(str(node), "refused", problem.reason, problem.detail))
        else:
            self._note(TriedNode(str(node), "accepted", warnings=platform.warnings))

    def _note(self, verdict: TriedNode) -> None:
        name = NodeName(verdict.node)
        self._verdicts[name] = verdict
        self._waiting.discard(name)
        if not self._waiting:
            self._done.set()

    async def verdicts(self) -> tuple[TriedNode, ...]:
        """All verdicts by name, when they are there or `PATIENCE_S` have passed; who is missing has not answered."""
        if self._waiting:
            with trio.move_on_after(PATIENCE_S):
                await self._done.wait()
        missing = [TriedNode(str(name), "no_answer") for name in self._waiting]
        return tuple(sorted([*self._verdicts.values(), *missing], key=lambda verdict: verdict.node))
