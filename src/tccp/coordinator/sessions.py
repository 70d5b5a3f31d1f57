"""Who is connected: the sessions of admitted nodes, and how to reach into one of them from outside."""

import math
from dataclasses import dataclass, field

import trio

from tccp.model import NodeName


@dataclass(slots=True, eq=False)
class NodeSession:
    """One admitted node's connection. Its own task does all talking; others leave a word here and wake it."""

    node: NodeName
    address: str
    policy_version: int
    revoked_reason: str | None = None
    challenge_now: bool = False
    _waiting: trio.CancelScope | None = field(default=None, repr=False)

    def wait_scope(self, deadline: float) -> trio.CancelScope:
        """The scope in which the session's task waits for its peer; ends at *deadline*, or when it is woken."""
        if self.revoked_reason is not None or self.challenge_now:
            deadline = -math.inf
        self._waiting = trio.CancelScope(deadline=deadline)
        return self._waiting

    def revoke(self, reason: str) -> None:
        """Tell the node that it is out."""
        self.revoked_reason = reason
        self._wake()

    def ask_for_evidence(self) -> None:
        """Challenge the node now, whatever is left of its lease."""
        self.challenge_now = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()


@dataclass(slots=True)
class Refusal:
    """The last time a node was refused."""

    at_ms: int
    reason: str
    detail: str
    logged_ms: int  # when it was last entered in the log


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    registrations: int = 0
    renewals: int = 0
    refusals: int = 0


class Sessions:
    """All sessions by node; at most one a node, the newest."""

    def __init__(self) -> None:
        self._by_node: dict[NodeName, NodeSession] = {}
        self.refusals: dict[NodeName, Refusal] = {}
        self.counters = Counters()

    def __len__(self) -> int:
        """How many nodes are connected."""
        return len(self._by_node)

    def get(self, node: NodeName) -> NodeSession | None:
        """The session of *node*."""
        return self._by_node.get(node)

    def open(self, session: NodeSession) -> None:
        """Enter *session*; an older one of the same node is told that it was replaced."""
        older = self._by_node.get(session.node)
        self._by_node[session.node] = session
        if older is not None:
            older.revoke("replaced")

    def close(self, session: NodeSession) -> None:
        """Forget *session*, unless a newer one took its place."""
        if self._by_node.get(session.node) is session:
            del self._by_node[session.node]

    def ask_all(self, nodes: set[NodeName]) -> None:
        """Challenge those of *nodes* that are connected, now."""
        for node in nodes:
            if (session := self._by_node.get(node)) is not None:
                session.ask_for_evidence()
