"""What the store keeps: immutable records whose sizes are right once they are made.

Times are Unix milliseconds that the caller gives; nothing here reads a clock. `ValueError` says that a
record cannot be.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from tccp.attestation.attributes import check_attributes
from tccp.model import NodeName

EK_ID_BYTES = 32
LEASE_ID_BYTES = 16
BOOT_ID_BYTES = 16
SPKI_SHA256_BYTES = 32
AK_NAME_BYTES_MAX = 66  # TPMT_HA: a hash algorithm and at most a SHA-512 digest
IDENTITY_BYTES_MAX = 65_536
EK_PUBLIC_BYTES_MAX = 8_192
POLICY_BODY_BYTES_MAX = 1 << 20
META_BYTES_MAX = 1 << 20
EVENT_BODY_BYTES_MAX = 65_535  # an entry of a tlog-tiles log is not longer either
TEXT_CHARS_MAX = 256
ATTRIBUTES_MAX = 64
TIME_MS_MAX = (1 << 63) - 1


class EventKind(enum.StrEnum):
    """What the log speaks of. Renewals are no events: they are frequent, and a lease's row holds its last one."""

    START = "start"
    ENROL = "enrol"
    ASSIGN = "assign"
    ATTRIBUTES = "attributes"
    REMOVE = "remove"
    POLICY = "policy"
    SHADOW = "shadow"
    ADMIT = "admit"
    REFUSE = "refuse"
    END = "end"
    REVOKE = "revoke"
    REINSTATE = "reinstate"
    KEYS_SEALED = "keys_sealed"
    KEYS_RESTORED = "keys_restored"
    KEYS_BACKED_UP = "keys_backed_up"
    APPROVAL_INSTALLED = "approval_installed"
    APPROVALS_ENDED = "approvals_ended"
    TENANT = "tenant"
    RELEASE = "release"
    STOP = "stop"
    SUSPEND = "suspend"
    RESUME = "resume"
    DESTROY = "destroy"
    MOVE = "move"
    MOVED = "moved"
    STAYED = "stayed"
    PROBE = "probe"
    TOLD = "told"


class EndReason(enum.StrEnum):
    """Why the store itself ends a lease; `Store.end_lease` takes any other word."""

    REPLACED = "replaced"
    LAPSED = "lapsed"
    REVOKED = "revoked"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A host inside the perimeter.

    Attributes:
        ek_id: SHA-256 of the EK's SubjectPublicKeyInfo; bound to *name* for ever.
        ek_public: The EK's public area or SPKI as the operator gave it, if she did.
        policy: The name of the policy that judges this node; it may be added later.
    """

    name: NodeName
    ek_id: bytes
    policy: str
    enrolled_ms: int
    ek_public: bytes | None = None
    revoked_ms: int | None = None
    revoke_reason: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes and times that cannot be."""
        check_bytes("ek_id", self.ek_id, EK_ID_BYTES, EK_ID_BYTES)
        check_bytes("ek_public", self.ek_public or b"", 0, EK_PUBLIC_BYTES_MAX)
        check_text("policy", self.policy)
        check_time("enrolled_ms", self.enrolled_ms)
        if (self.revoked_ms is None) != (self.revoke_reason is None):
            raise ValueError("a revoked node has a time and a reason, another one has neither")
        if self.revoked_ms is not None and self.revoke_reason is not None:
            check_time("revoked_ms", self.revoked_ms)
            check_text("revoke_reason", self.revoke_reason)
        if len(self.attributes) > ATTRIBUTES_MAX:
            raise ValueError(f"more than {ATTRIBUTES_MAX} attributes")
        check_attributes(self.attributes)


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One version of a policy; the newest version of a name is in force, and all are kept."""

    name: str
    version: int
    body: bytes
    sha256: bytes
    added_ms: int

    def __post_init__(self) -> None:
        """Refuse a digest that is not the body's."""
        check_text("name", self.name)
        if not 1 <= self.version < 1 << 63:
            raise ValueError(f"a policy's versions count from 1: {self.version}")
        check_bytes("body", self.body, 0, POLICY_BODY_BYTES_MAX)
        if self.sha256 != hashlib.sha256(self.body).digest():
            raise ValueError("sha256 is not that of the body")
        check_time("added_ms", self.added_ms)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """How long a verdict on a node holds, and what it was given for.

    Attributes:
        identity: The identity statement, exactly the bytes that the quote covers.
        reset_count: TPMS_CLOCK_INFO.resetCount; may not move within a lease.
        restart_count: TPMS_CLOCK_INFO.restartCount; may not move within a lease.
        clock_ms: TPMS_CLOCK_INFO.clock, any 64-bit number: whoever owns the TPM can push it forward.
        ended_ms: When the lease was ended, None while it is open. An open lease may have expired.
    """

    lease_id: bytes
    node: NodeName
    boot_id: bytes
    ak_name: bytes
    tls_spki_sha256: bytes
    identity: bytes
    policy: str
    policy_version: int
    issued_ms: int
    renewed_ms: int
    expires_ms: int
    reset_count: int
    restart_count: int
    clock_ms: int
    ended_ms: int | None = None
    end_reason: str | None = None

    def __post_init__(self) -> None:
        """Refuse sizes, times and counters that cannot be."""
        check_bytes("lease_id", self.lease_id, LEASE_ID_BYTES, LEASE_ID_BYTES)
        check_bytes("boot_id", self.boot_id, BOOT_ID_BYTES, BOOT_ID_BYTES)
        check_bytes("ak_name", self.ak_name, 1, AK_NAME_BYTES_MAX)
        check_bytes("tls_spki_sha256", self.tls_spki_sha256, SPKI_SHA256_BYTES, SPKI_SHA256_BYTES)
        check_bytes("identity", self.identity, 1, IDENTITY_BYTES_MAX)
        check_time("issued_ms", self.issued_ms)
        check_lease_times(self.renewed_ms, self.expires_ms)
        check_clock(self.reset_count, self.restart_count, self.clock_ms)
        if (self.ended_ms is None) != (self.end_reason is None):
            raise ValueError("an ended lease has a time and a reason, an open one has neither")


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event that has no place in the log yet. *body* is the caller's msgpack."""

    at_ms: int
    kind: str
    node: NodeName | None = None
    body: bytes = b""

    def __post_init__(self) -> None:
        """Refuse what the log cannot hold."""
        check_time("at_ms", self.at_ms)
        check_text("kind", self.kind)
        check_bytes("body", self.body, 0, EVENT_BODY_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event in its place. The first *seq* is 1, and each next one is one more: there are no holes."""

    seq: int
    at_ms: int
    kind: str
    node: NodeName | None
    body: bytes


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much there is, for a status page."""

    nodes: int
    revoked_nodes: int
    open_leases: int
    policies: int
    last_seq: int
    epoch: int
    database_bytes: int


def check_bytes(what: str, value: bytes, shortest: int, longest: int) -> None:
    """Refuse *value* unless its length is between the two.

    Raises:
        ValueError: It is not.
    """
    if not shortest <= len(value) <= longest:
        raise ValueError(f"{what}: {len(value)} bytes, not {shortest} to {longest}")


def check_text(what: str, value: str) -> None:
    """Refuse an empty or very long word.

    Raises:
        ValueError: It is one.
    """
    if not 1 <= len(value) <= TEXT_CHARS_MAX:
        raise ValueError(f"{what}: {len(value)} characters, not 1 to {TEXT_CHARS_MAX}")


def check_time(what: str, time_ms: int) -> None:
    """Refuse a time before 1970 or one that no database holds.

    Raises:
        ValueError: It is one.
    """
    if not 0 <= time_ms <= TIME_MS_MAX:
        raise ValueError(f"{what}: {time_ms} is not a Unix time in milliseconds")


def check_lease_times(renewed_ms: int, expires_ms: int) -> None:
    """Refuse a lease that ends before it begins.

    Raises:
        ValueError: It does.
    """
    if not 0 <= renewed_ms < expires_ms <= TIME_MS_MAX:
        raise ValueError(f"a lease renewed at {renewed_ms} cannot expire at {expires_ms}")


def check_clock(reset_count: int, restart_count: int, clock_ms: int) -> None:
    """Refuse numbers that do not fit into TPMS_CLOCK_INFO (TPM 2.0 Library, Part 2, 10.11.1).

    Raises:
        ValueError: They do not.
    """
    if not (0 <= reset_count < 1 << 32 and 0 <= restart_count < 1 << 32 and 0 <= clock_ms < 1 << 64):
        raise ValueError("resetCount and restartCount have 32 bits, clock has 64")
