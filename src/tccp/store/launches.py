"""What the store keeps of tenants and their VMs; immutable, and right once made, as `tccp.store.records` has it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from tccp.model import NodeName
from tccp.protocol.marks import MARK_BYTES, MARKS_MAX
from tccp.store.records import LEASE_ID_BYTES, check_bytes, check_text, check_time

TENANT_KEY_BYTES = 32
VM_ID_BYTES = 16
IMAGES_BYTES_MAX = 8_192


class VmState(enum.StrEnum):
    """What the record says of a VM's last release."""

    RUNNING = "running"  # its node may run it
    SUSPENDED = "suspended"  # its node has written it to a file, which one node may resume
    ENDED = "ended"  # its node says that it has ended
    LOST = "lost"  # its node has lost its lease, and stops it by the end of that lease at the latest
    DESTROYED = "destroyed"  # its node has wiped all that there was of it; nobody gets its keys again


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """Somebody whose tickets count."""

    name: str
    key: bytes
    added_ms: int

    def __post_init__(self) -> None:
        """Refuse what no tenant is."""
        check_text("name", self.name)
        check_bytes("key", self.key, TENANT_KEY_BYTES, TENANT_KEY_BYTES)
        check_time("added_ms", self.added_ms)


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """A node asks for the keys of a VM by a ticket that was verified; the transaction decides.

    Attributes:
        ticket: SHA-256 of the ticket's bytes.
        images: What the ticket says of its images, for the record.
        policy: The policy that must have admitted the node, in *version_min* or later.
        attributes: What must be said of the node, beside anything else.
        attested_demands: What evidence must say of it.
        attested: What evidence says of it, with *attested_by*: the policy and version that it follows from.
        lease_id: The lease of the connection on which the node asks.
        nonce: The node's, 32 bytes: by it a node that asks again after a lost answer is known.
        evidence_since_ms: Since when the node's last evidence must have been judged.
        gives_up_state: Whether the tenant starts it anew although there is a suspended state.
        state_root: Of the suspended state that is to be resumed; empty for a start.
        may_roll_back: Whether the tenant allows that it is not the newest.
    """

    ticket: bytes
    tenant_key: bytes
    vm_id: bytes
    images: bytes
    policy: str
    version_min: int
    lease_id: bytes
    nonce: bytes
    at_ms: int
    evidence_since_ms: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    attested_demands: Mapping[str, str] = field(default_factory=dict)
    attested: Mapping[str, str] = field(default_factory=dict)
    attested_by: tuple[str, int] | None = None
    gives_up_state: bool = False
    state_root: bytes = b""
    may_roll_back: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes and times that cannot be."""
        check_bytes("state_root", self.state_root, 0, 32)
        check_bytes("ticket", self.ticket, 32, 32)
        check_bytes("tenant_key", self.tenant_key, TENANT_KEY_BYTES, TENANT_KEY_BYTES)
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("images", self.images, 1, IMAGES_BYTES_MAX)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_bytes("nonce", self.nonce, 32, 32)
        check_text("policy", self.policy)
        check_time("at_ms", self.at_ms)
        check_time("evidence_since_ms", self.evidence_since_ms)


@dataclass(frozen=True, slots=True)
class VmRecord:
    """A VM and who owns it.

    Attributes:
        epoch: Counts the releases of this VM, from 1.
        lease_id: The lease under which its node runs it; follows the node's leases of the same boot.
        ticket: SHA-256 of the ticket that was used for the last release.
        seq: Place in the log of the release, or resumption, by which its node owns it.
        free_ms: From when on it may be released again, unless it is running.
        disk_root: The root of its disk when it ended last; None as long as there is none.
        generation: Of its last suspended state: the epoch in which that was made; 0 when there is none.
        state_root: Root of that state, 32 bytes.
        destroy_seq: Place in the log of the first word of its destruction.
        marks: How far its disks had come when that was registered last (`tccp.protocol.marks`).
        marks_epoch: In which epoch that was; 0 without any.
        may_roll_back: Whether that ticket lets its provider go back to an older state.
    """

    vm_id: bytes
    tenant_key: bytes
    state: str
    epoch: int
    node: NodeName
    boot_id: bytes
    lease_id: bytes
    ticket: bytes
    nonce: bytes
    images: bytes
    seq: int
    released_ms: int
    ended_ms: int | None
    end_reason: str | None
    free_ms: int
    disk_root: bytes | None
    generation: int = 0
    state_root: bytes | None = None
    destroy_seq: int | None = None
    marks: bytes | None = None
    marks_epoch: int = 0
    may_roll_back: bool = False


@dataclass(frozen=True, slots=True)
class VmEnd:
    """A node says that a VM has ended there.

    Attributes:
        lease_id: The lease of the connection on which it says so.
        disk_root: Of the VM's disk, 32 bytes, or None when it has none, or nobody can say.
        marks: The last that are known of its disks.
    """

    vm_id: bytes
    epoch: int
    lease_id: bytes
    disk_root: bytes | None
    reason: str
    at_ms: int
    marks: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse sizes and times that cannot be."""
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_text("reason", self.reason)
        check_time("at_ms", self.at_ms)
        _check_disks(self.disk_root, self.marks)


@dataclass(frozen=True, slots=True)
class VmMarks:
    """A node says how far the disks of a VM have come that runs there.

    Attributes:
        lease_id: The lease of the connection on which it says so.
    """

    vm_id: bytes
    epoch: int
    lease_id: bytes
    marks: bytes

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be."""
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        _check_disks(None, self.marks)


@dataclass(frozen=True, slots=True)
class VmSuspension:
    """A node says that a VM stands in a file, and nowhere else.

    Attributes:
        generation: The epoch; or, when a resumed VM has never run, that of the state that was to be resumed.
        lease_id: The lease of the connection on which it says so.
        state_root: Of the file, 32 bytes.
    """

    vm_id: bytes
    epoch: int
    generation: int
    lease_id: bytes
    state_root: bytes
    disk_root: bytes | None
    at_ms: int
    marks: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse sizes and times that cannot be."""
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_bytes("state_root", self.state_root, 32, 32)
        check_time("at_ms", self.at_ms)
        _check_disks(self.disk_root, self.marks)


@dataclass(frozen=True, slots=True)
class VmDestruction:
    """A node says, and has signed, that it has wiped all that there was of a VM.

    Attributes:
        statement_sha256: Of what it signed.
        identity_sha256: Of the identity statement of the boot that signed.
    """

    vm_id: bytes
    epoch: int
    lease_id: bytes
    statement_sha256: bytes
    identity_sha256: bytes
    at_ms: int

    def __post_init__(self) -> None:
        """Refuse sizes and times that cannot be."""
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_bytes("statement_sha256", self.statement_sha256, 32, 32)
        check_bytes("identity_sha256", self.identity_sha256, 32, 32)
        check_time("at_ms", self.at_ms)


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A VM that is on its way.

    Attributes:
        epoch: Of its owner, until the move is over.
        move_id: The nonce with which the destination asked, 32 bytes.
        node: The destination, in the boot *boot_id*.
        address: Host and port where it waits for the source.
        seq: Place in the log of its beginning.
        marks: Of its disks at the destination; None until all of it is there.
    """

    vm_id: bytes
    epoch: int
    move_id: bytes
    node: NodeName
    boot_id: bytes
    address: str
    seq: int
    marks: bytes | None = None


@dataclass(frozen=True, slots=True)
class MoveArrival:
    """The destination of a move says that all of it is there.

    Attributes:
        epoch: That the VM will have.
        lease_id: The lease of the connection on which it says so.
        marks: Of its disks there; empty without any.
    """

    vm_id: bytes
    epoch: int
    move_id: bytes
    lease_id: bytes
    marks: bytes

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be."""
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("move_id", self.move_id, 32, 32)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_bytes("marks", self.marks, 0, MARKS_MAX * MARK_BYTES)


@dataclass(frozen=True, slots=True)
class MoveWord:
    """The source of a move says that it has wiped its copy, or that it goes on alone.

    Attributes:
        lease_id: The lease of the connection on which it says so.
        statement_sha256: Of what it signed; 32 zero bytes when it goes on.
    """

    vm_id: bytes
    epoch: int
    move_id: bytes
    lease_id: bytes
    statement_sha256: bytes
    at_ms: int

    def __post_init__(self) -> None:
        """Refuse sizes and times that cannot be."""
        check_bytes("vm_id", self.vm_id, VM_ID_BYTES, VM_ID_BYTES)
        check_bytes("move_id", self.move_id, 32, 32)
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_bytes("statement_sha256", self.statement_sha256, 32, 32)
        check_time("at_ms", self.at_ms)


def _check_disks(disk_root: bytes | None, marks: bytes | None) -> None:
    if disk_root is not None:
        check_bytes("disk_root", disk_root, 32, 32)
    if marks is not None:
        check_bytes("marks", marks, MARK_BYTES, MARKS_MAX * MARK_BYTES)
