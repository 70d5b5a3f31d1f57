"""Who is connected: the sessions of admitted nodes."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import trio

from tccp.attestation.boot_policy import AnyPolicy
from tccp.attestation.quote import AkKey
from tccp.bugs import contained
from tccp.coordinator.examination import KnownBoot
from tccp.coordinator.shadows import Shadow
from tccp.coordinator.trials import Trial
from tccp.measures import Tally
from tccp.model import NodeName, PcrSelection
from tccp.protocol.binding import Channel
from tccp.protocol.messages import NodeReport, NodeRequest
from tccp.store import LeaseRecord
from tccp.transport.certificates import CertificateTemplate
from tccp.transport.connection import Connection
from tccp.transport.errors import PeerGoneError

ANSWER_S = 30.0  # how long a nonce is good for


def check_in_time(asked_ms: int, now_ms: int) -> None:
    """A nonce is good for `ANSWER_S`, also where no timer went off: the host slept, or our loop was held up.

    Raises:
        PeerGoneError: The answer has come later.
    """
    if now_ms - asked_ms > 1000 * ANSWER_S:
        raise PeerGoneError("peer_gone", f"an answer after {(now_ms - asked_ms) / 1000:.0f} s")


@dataclass(slots=True)
class Lease:
    """An open lease as its session holds it."""

    record: LeaseRecord
    ak: AkKey
    certificates: CertificateTemplate
    deadline: float  # trio time; the store has the wall-clock one
    asked_at: float  # trio time: the last evidence that held is no older than this
    ek_id: bytes
    tpm: Mapping[str, str]  # attributes that follow from the TPM
    boot: KnownBoot = field(default_factory=KnownBoot)
    boot_in_shadow: KnownBoot = field(default_factory=KnownBoot)  # of the policy's version in the shadow


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """What a node has been asked and has not answered yet."""

    nonce: bytes
    asked_at: float  # trio time, which stands still while the host sleeps
    asked_ms: int  # the same by the coordinator's clock, which does not
    policy: AnyPolicy
    selection: PcrSelection  # what was asked for: at least what the policy wants to see
    lease_s: int  # that a good answer earns, in the record and at the node, whatever is configured meanwhile
    trial: Trial | None = None  # the policy is only tried
    shadow: Shadow | None = None  # judges beside the policy


@dataclass(slots=True, eq=False)
class NodeSession:
    """One admitted node's connection. Its own task reads; `Renewals` does all the talking."""

    node: NodeName
    address: str
    connection: Connection
    channel: Channel
    lease: Lease
    policy: str  # that judges it from now on
    policy_version: int  # of the policy that judged it last, and
    judged_by: str  # its name: another one while it was assigned another and has not quoted for that yet
    challenge: OpenChallenge | None = None
    due: float = 0.0  # trio time: when something is to be done about it
    renewed: trio.Event | None = field(default=None, repr=False)  # the next time it is, if anybody waits for that
    parts: trio.MemorySendChannel[bytes] | None = field(default=None, repr=False)  # who waits for one of its logs
    trial: Trial | None = None  # for which it is asked next
    working_on: set[NodeRequest | NodeReport] = field(default_factory=set, repr=False)  # of what it asked and said
    revoked: bool = False  # it is being told, and nothing else
    closed: trio.Event = field(default_factory=trio.Event, repr=False)  # its task is over
    scope: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)

    @property
    def ended(self) -> bool:
        """Nothing more is said to it, or its task was told to end."""
        return self.revoked or self.scope.cancel_called

    def contained(self) -> AbstractContextManager[None]:
        """A bug in what is done here costs this node its connection, and nobody else anything."""
        return contained("session_bug", end=self.scope.cancel, node=str(self.node))

    def until_renewed(self) -> trio.Event:
        """What `tell_renewed` sets next, for all who wait."""
        if self.renewed is None:
            self.renewed = trio.Event()
        return self.renewed

    def tell_renewed(self) -> None:
        """Wake who waits until it is renewed."""
        if self.renewed is not None:
            self.renewed.set()
            self.renewed = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last time a node was refused."""

    at_ms: int
    reason: str
    detail: str
    logged_ms: Mapping[str, int]  # by reason, when it was last entered in the log


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    registrations: int = 0
    renewals: int = 0
    releases: int = 0
    lapses: int = 0
    worker_ends: int = 0  # that nobody wanted
    told: Tally = field(default_factory=Tally)  # of a revocation, by what the node did
    refusals: Tally = field(default_factory=Tally)
    key_refusals: Tally = field(default_factory=Tally)
    too_many: Tally = field(default_factory=Tally)  # connections from one address, by the port


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

    def judged_by(self, policy: str) -> list[NodeSession]:
        """The sessions of all nodes that this policy judges."""
        return [session for session in self._by_node.values() if session.policy == policy]

    def open(self, session: NodeSession) -> None:
        """Enter *session*; an older one of the same node, whose lease was replaced, is ended."""
        older = self._by_node.get(session.node)
        self._by_node[session.node] = session
        if older is not None:
            older.scope.cancel()

    def close(self, session: NodeSession) -> None:
        """Forget *session*, unless a newer one took its place."""
        session.scope.cancel()
        session.closed.set()
        session.tell_renewed()  # who waits for it sees that it has ended
        if session.parts is not None:
            session.parts.close()
        if self._by_node.get(session.node) is session:
            del self._by_node[session.node]
