"""What a store can do. There is no SQL, no connection and no thread in it, so that another engine can stand behind it.

Every operation that changes something is one transaction, which appends its own events and carries the epoch that the
store was opened with. It returns when it is durable. It raises

- `ConflictError` when the state says no: nothing was written;
- `FencedError` when another coordinator has opened the database since: nothing was written, and never will be;
- `StoreError` when the database cannot be written (``disk_full``, ``io_error``, ``locked``, ``closed``): nothing was
  written, and the same call may succeed later;
- `ValueError` when an argument is none of what the record can hold.

A task that is cancelled while it waits does not learn whether its transaction happened.
"""

import abc
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from tccp.measures import Durations
from tccp.model import NodeName
from tccp.store.errors import ConflictError
from tccp.store.records import EventDraft, EventRecord, LeaseRecord, NodeRecord, PolicyRecord, StoreCounts
from tccp.store.renewal import Renewal
from tccp.store.vm_interface import PAGE, VmStore

PAGE_MAX = 10_000  # a greater limit means this one


class Store(VmStore):
    """The coordinator's durable state. *body* is always the event's msgpack, made by the caller; the rest of the event
    follows from the operation, so that the log cannot say anything else than what was done.
    """

    # ---- nodes ----

    @abc.abstractmethod
    async def enrol_node(self, record: NodeRecord, body: bytes = b"") -> int:
        """Take a node into the perimeter; name and EK are bound to each other for ever. Event ``enrol``.

        Raises:
            ConflictError: ``node_exists``, ``name_bound``, ``ek_bound``.
        """

    @abc.abstractmethod
    async def import_nodes(self, entries: Sequence[tuple[NodeRecord, bytes]]) -> list[NodeName]:
        """Enrol those of *entries* that are not enrolled yet, all or none; events ``enrol``.

        Returns:
            The names that are new.

        Raises:
            ConflictError: ``name_bound``, ``ek_bound``; the detail names the node.
        """

    @abc.abstractmethod
    async def set_node_policy(self, name: NodeName, policy: str, at_ms: int, body: bytes = b"") -> int:
        """Have a node judged by another policy from its next admission on. Event ``assign``.

        Raises:
            ConflictError: ``node_unknown``.
        """

    @abc.abstractmethod
    async def set_attributes(
        self, name: NodeName, said: Mapping[str, str], taken_back: Collection[str], at_ms: int
    ) -> int:
        """Assert *said* of a node, and what is named in *taken_back* no more. Event ``attributes``.

        Raises:
            ConflictError: ``node_unknown``, ``bad_attributes``.
        """

    @abc.abstractmethod
    async def revoke_node(self, name: NodeName, reason: str, at_ms: int, body: bytes = b"") -> int:
        """Admit a node no more, and end its open lease. Events ``revoke``, ``end``.

        Raises:
            ConflictError: ``node_unknown``, ``node_revoked``.
        """

    @abc.abstractmethod
    async def reinstate_node(self, name: NodeName, at_ms: int, body: bytes = b"") -> int:
        """Take a revocation back; the node has to register again. Event ``reinstate``.

        Raises:
            ConflictError: ``node_unknown``, ``node_not_revoked``.
        """

    @abc.abstractmethod
    async def remove_node(self, name: NodeName, at_ms: int, body: bytes = b"") -> int:
        """Forget a node, but not that its name and its EK belong together. Events ``remove``, ``end``.

        Raises:
            ConflictError: ``node_unknown``.
        """

    @abc.abstractmethod
    async def node_by_name(self, name: NodeName) -> NodeRecord | None:
        """The node enrolled as *name*."""

    @abc.abstractmethod
    async def node_by_ek(self, ek_id: bytes) -> NodeRecord | None:
        """The node with this EK; *ek_id* is the SHA-256 of its SubjectPublicKeyInfo."""

    @abc.abstractmethod
    async def list_nodes(self, after: NodeName | None = None, limit: int = PAGE) -> list[NodeRecord]:
        """A page of the nodes in order of name, from the one after *after* on."""

    @abc.abstractmethod
    async def nodes_by_policy(self) -> dict[str, int]:
        """How many nodes that are not revoked each policy judges; policies without any are left out."""

    # ---- policies ----

    @abc.abstractmethod
    async def add_policy(self, record: PolicyRecord, body: bytes = b"") -> int:
        """Put a version of a policy in force. Event ``policy``.

        A version in its shadow that is not newer is dropped, event ``shadow``.

        Raises:
            ConflictError: ``policy_not_newer``.
        """

    @abc.abstractmethod
    async def policies(self) -> list[PolicyRecord]:
        """The version in force of each policy, in order of name."""

    @abc.abstractmethod
    async def policy(self, name: str, version: int | None = None) -> PolicyRecord | None:
        """One version of a policy; without *version* the one in force."""

    @abc.abstractmethod
    async def policy_versions(self, name: str) -> list[PolicyRecord]:
        """Every version of a policy, the oldest first."""

    @abc.abstractmethod
    async def set_shadow(self, record: PolicyRecord) -> int:
        """Put a version into the shadow of the one in force, in the place of one that is there. Event ``shadow``.

        Raises:
            ConflictError: ``policy_unknown``: none of that name is in force; ``policy_not_newer``.
        """

    @abc.abstractmethod
    async def promote_shadow(self, name: str, sha256: bytes, at_ms: int) -> int:
        """Put the version in the shadow in force, if it has this hash. Event ``policy``.

        Raises:
            ConflictError: ``no_shadow``, ``shadow_changed``, ``policy_not_newer``.
        """

    @abc.abstractmethod
    async def drop_shadow(self, name: str, at_ms: int) -> int:
        """Forget the version in the shadow. Event ``shadow``.

        Raises:
            ConflictError: ``no_shadow``.
        """

    @abc.abstractmethod
    async def shadows(self) -> list[PolicyRecord]:
        """The versions in a shadow, in order of name; ``added_ms`` says since when each is."""

    # ---- leases ----

    @abc.abstractmethod
    async def admit(self, lease: LeaseRecord, body: bytes = b"") -> int:
        """Open *lease*; an older open one of the node ends as ``replaced``. Events ``end`` (of the older), ``admit``.

        The node's oldest leases are forgotten: twenty that have ended remain, and those that a VM ran under last.

        Raises:
            ConflictError: ``node_unknown``, ``node_revoked``, ``policy_unknown``, ``policy_changed``: the lease's
                policy and version must be those in force for the node now, not when its quote was judged.
        """

    @abc.abstractmethod
    async def renew_all(self, renewals: Sequence[Renewal]) -> list[ConflictError | None]:
        """Let open leases hold longer, those that may. No events: a lease's row says when it was renewed last.

        Returns:
            For each renewal None, or why not: ``lease_unknown``, ``lease_ended`` (revoked, replaced, ...),
            ``lease_expired``, ``counters_moved``, ``clock_went_back``, ``policy_changed`` as in `admit`.
        """

    @abc.abstractmethod
    async def end_lease(self, lease_id: bytes, reason: str, at_ms: int) -> int:
        """End an open lease. Event ``end``, whose body is the msgpack of ``{"lease_id", "reason"}``.

        Raises:
            ConflictError: ``lease_unknown``, ``lease_ended``.
        """

    @abc.abstractmethod
    async def lapse_leases(self, now_ms: int) -> list[tuple[bytes, NodeName]]:
        """End every open lease that has expired, and return their ids and nodes. Events ``end``.

        Many of them take several transactions; after an error some are ended, and the next call ends the rest.
        """

    @abc.abstractmethod
    async def lease(self, lease_id: bytes) -> LeaseRecord | None:
        """A lease, open or ended."""

    @abc.abstractmethod
    async def open_lease(self, name: NodeName) -> LeaseRecord | None:
        """The open lease of a node; it may have expired."""

    @abc.abstractmethod
    async def open_leases(self, after: NodeName | None = None, limit: int = PAGE) -> list[LeaseRecord]:
        """A page of the open leases in order of node, from the one after *after* on."""

    @abc.abstractmethod
    async def leases_of(self, name: NodeName, limit: int = 20) -> list[LeaseRecord]:
        """The last leases of a node that have ended, the newest first; of older ones the log knows."""

    # ---- what nodes have measured ----

    @abc.abstractmethod
    async def keep_measured(self, entries: Sequence[tuple[NodeName, bytes]]) -> None:
        """Keep some bytes for each of these nodes until they are removed; those that are not enrolled are left out."""

    @abc.abstractmethod
    async def measured(self, name: NodeName) -> bytes | None:
        """What was kept for a node."""

    # ---- the log ----

    @abc.abstractmethod
    async def append_event(self, event: EventDraft) -> int:
        """Append what no other operation does: ``start``, ``refuse``."""

    @abc.abstractmethod
    async def events(self, since_seq: int = 0, limit: int = PAGE) -> list[EventRecord]:
        """A page of the log, from the event after *since_seq* on."""

    @abc.abstractmethod
    async def events_at(self, seqs: Sequence[int]) -> list[EventRecord]:
        """These events, in the order of the log; those that are not there are left out."""

    @abc.abstractmethod
    async def wait_for_events(self, since_seq: int) -> None:
        """Return once there is an event after *since_seq*.

        Raises:
            StoreError: ``closed``.
            FencedError: A transaction of ours was refused.
        """

    @abc.abstractmethod
    async def last_seq(self) -> int:
        """The place of the last event, 0 when there is none."""

    @abc.abstractmethod
    async def newest_time_ms(self) -> int:
        """The time of the last event or of the last renewal, whichever is later; 0 when there is neither."""

    @abc.abstractmethod
    def watch(self, since_seq: int) -> AsyncIterator[EventRecord]:
        """Every event after *since_seq*, in order, each once, and then each new one as it becomes durable.

        The events are read from the database page by page as the reader goes on: a slow reader keeps nobody waiting and
        nothing in memory. Iteration ends with `StoreError` (``closed``) or `FencedError`. There is nothing to close.
        """

    # ---- the rest ----

    @property
    @abc.abstractmethod
    def epoch(self) -> int:
        """What every write of this process carries; the next process to open the database has a greater one."""

    @property
    @abc.abstractmethod
    def commits(self) -> Durations:
        """How long it has taken to make transactions durable, each time."""

    @abc.abstractmethod
    async def check_fence(self) -> None:
        """Return when a transaction could be written now; for those who are about to act outside of the database.

        Raises:
            FencedError: Another coordinator has opened the database since.
        """

    @abc.abstractmethod
    async def meta(self, key: str) -> bytes | None:
        """The small value kept under *key*."""

    @abc.abstractmethod
    async def set_meta(self, key: str, value: bytes) -> None:
        """Keep a small value. No event."""

    @abc.abstractmethod
    async def counts(self) -> StoreCounts:
        """How much there is, for a status page."""
