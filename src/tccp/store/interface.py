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
from collections.abc import AsyncIterator, Sequence

from tccp.measures import Durations
from tccp.model import NodeName
from tccp.store.errors import ConflictError
from tccp.store.launches import (
    KeyClaim,
    MoveRecord,
    MoveWord,
    TenantRecord,
    VmDestruction,
    VmEnd,
    VmMarks,
    VmRecord,
    VmSuspension,
)
from tccp.store.records import EventDraft, EventRecord, LeaseRecord, NodeRecord, PolicyRecord, StoreCounts
from tccp.store.renewal import Renewal

PAGE = 1_000
PAGE_MAX = 10_000  # a greater limit means this one


class Store(abc.ABC):
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
        """The last leases of a node that have ended, the newest first."""

    # ---- tenants and their VMs ----

    @abc.abstractmethod
    async def add_tenant(self, record: TenantRecord) -> int:
        """Let a tenant's tickets count. Event ``tenant``.

        Raises:
            ConflictError: ``tenant_exists``: the name or the key is there.
        """

    @abc.abstractmethod
    async def remove_tenant(self, name: str, at_ms: int) -> int:
        """Let a tenant's tickets count no more; what runs goes on. Event ``tenant``.

        Raises:
            ConflictError: ``tenant_unknown``.
        """

    @abc.abstractmethod
    async def tenants(self) -> list[TenantRecord]:
        """All tenants, in order of name."""

    @abc.abstractmethod
    async def release(self, claim: KeyClaim) -> VmRecord:
        """Make the node that asks the owner of the VM, with the VM's next epoch. Event ``release``.

        A ticket is used once. The same boot of the same node may ask again with the same nonce and gets the same
        record, without another event: the answer may have been lost on the way.

        Raises:
            ConflictError: ``tenant_unknown``, ``lease_unknown``, ``lease_ended``, ``lease_expired``, ``node_revoked``,
                ``policy_changed`` (since the node's last evidence), ``evidence_old``, ``policy_not_demanded``,
                ``attribute_not_demanded``, ``vm_of_another_tenant``, ``ticket_used``, ``vm_running``, ``vm_not_free``,
                ``vm_suspended``, ``vm_destroyed``.
        """

    @abc.abstractmethod
    async def end_vm(self, end: VmEnd) -> int:
        """Take down that a VM has ended on its node; it can be released again. Event ``stop``.

        Returns:
            The place of the event, 0 when the VM had ended before.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_of_another_node``, ``vm_epoch_over``.
        """

    @abc.abstractmethod
    async def register_marks(self, marks: VmMarks) -> None:
        """Take down how far the disks of a VM have come that its owner runs. No event.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_of_another_node``, ``vm_epoch_over``, ``vm_not_running``, ``marks_old``:
                later ones are on record in this epoch.
        """

    @abc.abstractmethod
    async def resume(self, claim: KeyClaim) -> VmRecord:
        """Make the node that asks the owner of a suspended VM, with its next epoch. Event ``resume``.

        By the ticket that started the VM, from its newest suspended state, once; asking again as for `release`.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_not_suspended``, ``another_ticket``, ``state_old``; as `release` what
                concerns tenant, lease, evidence and demands.
        """

    @abc.abstractmethod
    async def suspend_vm(self, suspension: VmSuspension) -> int:
        """Take down that a VM stands in a file now. Event ``suspend``.

        Returns:
            The place of the event, 0 when that was known before.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_of_another_node``, ``vm_epoch_over``, ``vm_not_running``, ``state_old``.
        """

    @abc.abstractmethod
    async def destroy_vm(self, destruction: VmDestruction) -> int:
        """Take down that nothing is left of a VM; nobody gets its keys again. Event ``destroy``.

        Any boot of the node that had it last may say so, unless another boot may run it.

        Returns:
            The place of the event, also when the VM was destroyed before.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_of_another_node``, ``vm_epoch_over``.
        """

    @abc.abstractmethod
    async def prepare_move(self, claim: KeyClaim, address: str) -> MoveRecord:
        """Let the node that asks be where a VM moves to, by the ticket that started it. Event ``move``.

        The owner stays the owner. Asking again as for `release`.

        Args:
            address: Where it waits for the source.

        Raises:
            ConflictError: ``vm_unknown``, ``another_ticket``, ``vm_not_running``, ``vm_running`` (on the asker),
                ``source_silent``, ``vm_moving``; as `release` what concerns tenant, lease, evidence and demands.
        """

    @abc.abstractmethod
    async def commit_move(self, word: MoveWord) -> VmRecord:
        """The source has wiped its copy: the destination owns the VM, in the next epoch. Event ``moved``.

        A destination that is out of the perimeter by now gets nothing: the VM has ended then, event ``stop``.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_of_another_node``, ``vm_epoch_over``, ``move_unknown``.
        """

    @abc.abstractmethod
    async def abort_move(self, word: MoveWord) -> int:
        """The source goes on alone, and wipes nothing. Event ``stayed``. Raises as `commit_move`."""

    @abc.abstractmethod
    async def move(self, vm_id: bytes) -> MoveRecord | None:
        """The move of a VM that is under way."""

    @abc.abstractmethod
    async def moves_from(self, name: NodeName) -> list[MoveRecord]:
        """The moves that are under way of the VMs of a node."""

    @abc.abstractmethod
    async def vm(self, vm_id: bytes) -> VmRecord | None:
        """One VM."""

    @abc.abstractmethod
    async def vms(self, after: bytes = b"", limit: int = PAGE) -> list[VmRecord]:
        """A page of all VMs in order of id, from the one after *after* on."""

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
