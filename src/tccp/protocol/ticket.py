"""Tickets: what a tenant signs to have one VM started once.

The bytes of a ticket are made once, signed, kept and passed on; its hash names it everywhere else. Nobody on the way
can change it, and everybody may read it: the keys in it are wrapped to the coordinator.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import LaunchError, ProtocolError
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode

DOMAIN = "tccp/v2/ticket"
KEYS_INFO = b"tccp/v1/ticket-keys\0"
RELEASE_INFO = b"tccp/v1/released-keys\0"
KEY_BYTES = 32
IMAGES_MAX = 16
VALIDITY_S_MAX = 366 * 86_400
# How every ticket begins, up to its tenant's key: an array of fourteen fields, the domain, a byte string of 32.
PREFIX = b"\x9e" + bytes([0xA0 | len(DOMAIN)]) + DOMAIN.encode("ascii") + b"\xc4\x20"
HEADED_BY_KEY = len(PREFIX) + KEY_BYTES

Role = Literal["disk", "kernel", "initrd", "data"]
Firmware = Literal["uefi", "direct"]
DiskState = Literal["registered", "any"]
Permission = Literal["rollback"]
Word = Annotated[str, Meta(min_length=1, max_length=256)]


class VmShape(Message, frozen=True):
    """What the VM looks like. The node refuses what it cannot give; it never gives something else."""

    vcpus: Annotated[int, Meta(ge=1, le=256)]
    memory_mib: Annotated[int, Meta(ge=16, le=1 << 22)]
    firmware: Firmware
    cmdline: Annotated[str, Meta(max_length=4096)]
    networks: Annotated[tuple[f.Name, ...], Meta(max_length=16)]


class TicketImage(Message, frozen=True):
    """One image of the VM, named so that no other can stand in for it."""

    role: Role
    image_id: f.Id16
    root: f.Digest32  # of the sealed image; docs/IMAGE_FORMAT.md


class PolicyDemand(Message, frozen=True):
    """What the tenant demands of the node's evidence: admitted by the policy of this name, in this version or a later
    one; and that it says what *attested* does, whatever was asserted of the node.
    """

    name: f.Name
    version_min: f.Epoch
    attested: Annotated[dict[Word, Word], Meta(max_length=32)]


class Ticket(Message, frozen=True):
    """One start of one VM. *wrapped_keys* is HPKE to the coordinator's release key; see `keys_info`."""

    domain: str
    tenant_key: f.Ed25519Key
    coordinator_id: f.Digest32
    vm_id: f.Id16
    nonce: f.Nonce32  # the tenant's; whoever runs the VM answers it
    not_before_s: f.UnixSeconds
    not_after_s: f.UnixSeconds
    shape: VmShape
    images: Annotated[tuple[TicketImage, ...], Meta(min_length=1, max_length=IMAGES_MAX)]
    wrapped_keys: f.WrappedKeys  # the VM's key, then that of each image, 32 bytes each
    policy: PolicyDemand
    attributes: Annotated[dict[Word, Word], Meta(max_length=32)]  # of the node, whoever says so
    disk_state: DiskState  # "any": the tenant takes the disk as it is found, perhaps an older state of it
    # What the provider may do beside what it always may; nothing by default. "rollback": to keep states of the VM while
    # it goes on, and to have it go on from an older one.
    permissions: Annotated[tuple[Permission, ...], Meta(max_length=8)]


class SignedTicket(Message, frozen=True, tag="signed_ticket"):
    """A ticket as it travels in a file."""

    ticket: f.TicketBytes
    signature: f.Ed25519Signature


@dataclass(frozen=True, slots=True)
class VerifiedTicket:
    """A ticket whose tenant signed it. Only `verify_ticket` makes one; who the tenant is, the caller must ask."""

    ticket: Ticket
    sha256: bytes


def sign_ticket(ticket: Ticket, key: SigningKey) -> SignedTicket:
    """*ticket* with the signature of its tenant."""
    assert ticket.tenant_key == bytes(key.verify_key), "a tenant signs her own tickets"
    body = encode(ticket)
    assert body.startswith(PREFIX)
    return SignedTicket(body, key.sign(body).signature)


def read_ticket_file(content: bytes) -> SignedTicket:
    """The signed ticket in a file; nothing of it is verified yet.

    Raises:
        LaunchError: ``ticket_malformed``.
    """
    try:
        signed: SignedTicket = decode(content, SignedTicket)
    except ProtocolError as problem:
        raise LaunchError("ticket_malformed", f"no ticket file: {problem.detail}") from None
    return signed


def verify_ticket(body: bytes, signature: bytes) -> VerifiedTicket:
    """The ticket in *body*, once the key that it names is known to have signed it; structure comes after.

    Raises:
        LaunchError: ``ticket_malformed``, ``ticket_signature``.
    """
    if not body.startswith(PREFIX) or len(body) < HEADED_BY_KEY:
        raise LaunchError("ticket_malformed", "does not begin as a ticket does")
    try:
        VerifyKey(body[len(PREFIX) : HEADED_BY_KEY]).verify(body, signature)
    except (BadSignatureError, ValueError):
        raise LaunchError("ticket_signature", "its tenant has not signed this ticket") from None
    try:
        ticket: Ticket = decode(body, Ticket)
    except ProtocolError as problem:
        raise LaunchError("ticket_malformed", problem.detail) from None
    _check_sense(ticket)
    return VerifiedTicket(ticket, hashlib.sha256(body).digest())


def check_addressee(verified: VerifiedTicket, coordinator_id: bytes) -> None:
    """Whether the ticket was written for this coordinator.

    Raises:
        LaunchError: ``ticket_for_another_coordinator``.
    """
    meant = verified.ticket.coordinator_id
    if meant != coordinator_id:
        detail = f"for {meant.hex()[:16]}, this is {coordinator_id.hex()[:16]}"
        raise LaunchError("ticket_for_another_coordinator", detail)


def check_validity(verified: VerifiedTicket, now_ms: int) -> None:
    """Whether the ticket is valid now.

    Raises:
        LaunchError: ``ticket_not_yet_valid``, ``ticket_expired``.
    """
    begins_s, ends_s = verified.ticket.not_before_s, verified.ticket.not_after_s
    if now_ms < 1000 * begins_s:
        raise LaunchError("ticket_not_yet_valid", f"valid from {begins_s} on, it is {now_ms // 1000}")
    if now_ms >= 1000 * ends_s:
        raise LaunchError("ticket_expired", f"valid until {ends_s}, it is {now_ms // 1000}")


def keys_info(tenant_key: bytes, vm_id: bytes, images: Iterable[TicketImage]) -> bytes:
    """What the wrapped keys are bound to (HPKE's info): they open under no other tenant, VM or images."""
    named = b"".join(image.image_id + image.root for image in images)
    return KEYS_INFO + tenant_key + vm_id + hashlib.sha256(named).digest()


def release_info(ticket_sha256: bytes, vm_id: bytes, epoch: int, lease_id: bytes, nonce: bytes) -> bytes:
    """What released keys are bound to: they open for one request of one boot under one lease, in one epoch."""
    return RELEASE_INFO + ticket_sha256 + vm_id + epoch.to_bytes(8, "big") + lease_id + nonce


def _check_sense(ticket: Ticket) -> None:
    begins_s, ends_s = ticket.not_before_s, ticket.not_after_s
    if not begins_s < ends_s <= begins_s + VALIDITY_S_MAX:
        raise LaunchError("ticket_malformed", f"valid from {begins_s} until {ends_s}")
    roles = [image.role for image in ticket.images]
    if any(roles.count(role) > 1 for role in ("kernel", "initrd", "data")):
        raise LaunchError("ticket_malformed", "two kernels, two initrds, or two files of data")
    if ticket.shape.firmware == "direct" and "kernel" not in roles:
        raise LaunchError("ticket_malformed", "a direct boot without a kernel")
    if not {"kernel", "disk"}.intersection(roles):
        raise LaunchError("ticket_malformed", "nothing to boot from")
    if "initrd" in roles and "kernel" not in roles:
        raise LaunchError("ticket_malformed", "an initrd without a kernel")
    if ticket.shape.cmdline and "kernel" not in roles:
        raise LaunchError("ticket_malformed", "a command line without a kernel")
    if len(set(ticket.permissions)) < len(ticket.permissions):
        raise LaunchError("ticket_malformed", "a permission is named twice")
    if len({image.image_id for image in ticket.images}) < len(roles):
        raise LaunchError("ticket_malformed", "an image is named twice")
