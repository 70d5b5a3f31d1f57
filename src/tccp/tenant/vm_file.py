"""What a tenant keeps of each of her VMs, in a file of her own: its id, its key, and the tickets that she signed.

The key is made once and is wrapped into every ticket of the VM, so that the VM finds its disk and vTPM again; whoever
has it can pretend to run the VM. Losing the file loses the VM.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from nacl.signing import SigningKey

from tccp.core.image import ImageInfo, ImageKey
from tccp.durable import replace_file
from tccp.errors import ConfigError, HostError, ProtocolError
from tccp.image.entrusting import wrap_keys
from tccp.image.keys import RecipientPublicKey
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.ticket import (
    DOMAIN,
    DiskState,
    Permission,
    PolicyDemand,
    Role,
    SignedTicket,
    Ticket,
    TicketImage,
    VmShape,
    keys_info,
    sign_ticket,
    verify_ticket,
)

FILE_BYTES_MAX = 1 << 16
TICKETS_MAX = 1_024


class VmFile(Message, frozen=True, tag="tccp/v1/vm-file"):
    """The file; secret."""

    vm_id: f.Id16
    vm_key: f.Digest32
    tickets: Annotated[tuple[f.Digest32, ...], Meta(max_length=TICKETS_MAX)]  # SHA-256 of each that was signed

    def __repr__(self) -> str:
        """Without the key."""
        return f"VmFile({self.vm_id.hex()})"


@dataclass(frozen=True, slots=True)
class UnlockedImage:
    """An image of the VM, and its key, which the tenant has unlocked."""

    role: Role
    info: ImageInfo
    key: ImageKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class TicketTerms:
    """What a ticket says beside whom it is of: for whom, how long, on what and as what."""

    coordinator_id: bytes
    release_key: RecipientPublicKey
    not_before_s: int
    not_after_s: int
    shape: VmShape
    policy: PolicyDemand
    attributes: dict[str, str]
    disk_state: DiskState = "registered"
    permissions: tuple[Permission, ...] = ()


def new_vm() -> VmFile:
    """A VM that has no ticket yet."""
    return VmFile(os.urandom(16), os.urandom(32), ())


def write_ticket(
    vm: VmFile, images: Sequence[UnlockedImage], terms: TicketTerms, tenant: SigningKey
) -> tuple[SignedTicket, VmFile]:
    """A ticket for one start of *vm*, and *vm* with that ticket noted, to be kept before the ticket is given away.

    Raises:
        ConfigError: ``too_many_tickets``; or the release key is none.
        LaunchError: ``ticket_malformed``: no ticket can say that.
    """
    if len(vm.tickets) >= TICKETS_MAX:
        raise ConfigError("too_many_tickets", f"{TICKETS_MAX} were signed for this VM")
    tenant_key = bytes(tenant.verify_key)
    named = tuple(TicketImage(image.role, image.info.image_id, image.info.root) for image in images)
    vm_key = ImageKey.take(bytearray(vm.vm_key))
    keys = [vm_key, *(image.key for image in images)]
    ticket = Ticket(
        domain=DOMAIN,
        tenant_key=tenant_key,
        coordinator_id=terms.coordinator_id,
        vm_id=vm.vm_id,
        nonce=os.urandom(32),
        not_before_s=terms.not_before_s,
        not_after_s=terms.not_after_s,
        shape=terms.shape,
        images=named,
        wrapped_keys=wrap_keys(keys, terms.release_key, keys_info(tenant_key, vm.vm_id, named)),
        policy=terms.policy,
        attributes=terms.attributes,
        disk_state=terms.disk_state,
        permissions=terms.permissions,
    )
    signed = sign_ticket(ticket, tenant)
    verified = verify_ticket(signed.ticket, signed.signature)  # what we could not read ourselves is not given away
    return signed, VmFile(vm.vm_id, vm.vm_key, (*vm.tickets, verified.sha256))


def read_vm_file(path: Path) -> VmFile:
    """The file at *path*.

    Raises:
        ConfigError: It is none, or others may read it.
        HostError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigError("vm_file_exposed", f"{path}: others may read it", hint=f"chmod 600 {path}")
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise HostError("file_unreadable", f"{path}: {problem.strerror}") from None
    return parse_vm_file(content, where=str(path))


def parse_vm_file(content: bytes, *, where: str = "the VM file") -> VmFile:
    """The file's content; raises ConfigError as `read_vm_file` does."""
    try:
        vm: VmFile = decode(content, VmFile)
    except ProtocolError as problem:
        hint = "`tccp ticket create` makes one"
        raise ConfigError("vm_file_malformed", f"{where}: no VM file: {problem.detail}", hint=hint) from None
    return vm


def write_vm_file(path: Path, vm: VmFile) -> None:
    """Keep *vm* at *path*, durably, whatever was there before.

    Raises:
        HostError: It cannot be written; what was there is as it was.
    """
    replace_file(path, encode(vm), mode=0o600)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else signs a ticket of a VM whose file is in *folder* meanwhile; waits for who does.

    Else the one who writes last would forget the ticket of the other, whose launch could then not be verified. A file
    system that cannot lock folders does not.

    Raises:
        HostError: ``file_unreadable``: there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise HostError("file_unreadable", f"{folder}: {problem.strerror}") from None
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
