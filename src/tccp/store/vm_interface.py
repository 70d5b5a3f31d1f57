"""What a store can do with tenants and their VMs; `tccp.store.interface` has the rest, and what all of it raises."""

import abc

from tccp.model import NodeName
from tccp.store.launches import (
    KeyClaim,
    MoveArrival,
    MoveRecord,
    MoveWord,
    TenantRecord,
    VmDestruction,
    VmEnd,
    VmMarks,
    VmRecord,
    VmSuspension,
)

PAGE = 1_000


class VmStore(abc.ABC):
    """Who owns which VM, durably."""

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
                ``attribute_not_demanded``, ``attribute_not_attested``, ``vm_of_another_tenant``, ``ticket_used``,
                ``vm_running``, ``vm_not_free``, ``vm_suspended``, ``vm_destroyed``.
        """

    @abc.abstractmethod
    async def hold_vms(self, known_ms: int, at_ms: int) -> None:
        """Before anything else that a start at *at_ms* does: for VMs no time has passed since *known_ms*. No event.

        None of those that run, or may run yet, is free before what was left then, and the time that ending takes, has
        passed once more.
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

        By the ticket that started the VM, from its newest suspended state, once; asking again as for `release`. Where
        the claim may roll it back, from an older state as well, unless a node runs the VM or may.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_not_suspended``, ``another_ticket``, ``state_old``; when it is to be
                rolled back, ``state_unknown``, ``vm_running``, ``vm_not_free``, ``vm_destroyed``; as `release` what
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

        Any boot of the node that had it last may say so, unless another boot may run it; a later one also once more,
        for the answer to an earlier one may have been lost with it: that is another event, of another statement.

        Returns:
            The place of the event of this very statement.

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
    async def arrive(self, arrival: MoveArrival) -> None:
        """Take down that all of a VM is at its destination, and how far its disks there have come. No event.

        Raises:
            ConflictError: ``move_over``: it is not on its way there.
        """

    @abc.abstractmethod
    async def commit_move(self, word: MoveWord) -> VmRecord:
        """The source has wiped its copy: the destination owns the VM, in the next epoch. Event ``moved``.

        A destination that is out of the perimeter by now, or where it has not arrived, gets nothing: the VM has ended
        then, event ``stop``, and starts again from the disks at its source. Saying it again changes nothing.

        Raises:
            ConflictError: ``vm_unknown``, ``vm_of_another_node``, ``vm_epoch_over``, ``move_unknown``.
        """

    @abc.abstractmethod
    async def abort_move(self, word: MoveWord) -> int:
        """The source goes on alone, and wipes nothing. Event ``stayed``. Raises as `commit_move`."""

    @abc.abstractmethod
    async def move(self, vm_id: bytes, at_ms: int) -> MoveRecord | None:
        """The move of a VM that is under way: not one whose source can say nothing of it any more at that time."""

    @abc.abstractmethod
    async def moves_from(self, name: NodeName, at_ms: int) -> list[MoveRecord]:
        """The moves that are under way of the VMs of a node, as `move` tells them."""

    @abc.abstractmethod
    async def vm(self, vm_id: bytes) -> VmRecord | None:
        """One VM."""

    @abc.abstractmethod
    async def vms(self, after: bytes = b"", limit: int = PAGE) -> list[VmRecord]:
        """A page of all VMs in order of id, from the one after *after* on."""
