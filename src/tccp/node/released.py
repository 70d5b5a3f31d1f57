"""What the coordinator releases to this boot: keys of VMs, unwrapped into locked memory; and how a VM is given back."""

from dataclasses import dataclass, field

from tccp.core.image import ImageKey
from tccp.errors import LaunchError
from tccp.image.entrusting import unwrap_keys
from tccp.image.keys import RecipientSecretKey
from tccp.protocol.marks import MARK_BYTES, check_marks
from tccp.protocol.messages import KeyRelease, MovePrepared, NodeReport, VmEnded, VmSuspended
from tccp.protocol.ticket import VerifiedTicket, release_info


@dataclass(frozen=True, slots=True)
class ReleasedKeys:
    """The keys of a VM that this node now owns, in locked memory.

    Attributes:
        images: One for each image of the ticket, in its order.
        disk_root: That the VM's disk must have; None when it has none yet.
        receipt: Of the release, in the coordinator's log.
        generation: Of the suspended state from which it goes on; 0 when it starts.
        state_root: Of that state.
        marks: That vTPM and disks must have come by (`tccp.protocol.marks`); of a VM that moves here the vTPM's alone.
    """

    vm_key: ImageKey = field(repr=False)
    images: tuple[ImageKey, ...] = field(repr=False)
    epoch: int
    disk_root: bytes | None
    receipt: bytes
    generation: int = 0
    state_root: bytes = b""
    marks: bytes = b""


@dataclass(frozen=True, slots=True)
class PreparedMove:
    """A VM is on its way to us, and not ours yet.

    Attributes:
        keys: Of the epoch that it will have.
        source_spki_sha256: Of the TLS key of its node.
    """

    keys: ReleasedKeys
    move_id: bytes
    source_spki_sha256: bytes


def unwrap_release(
    release: KeyRelease | MovePrepared, ticket: VerifiedTicket, boot_key: RecipientSecretKey, lease_id: bytes
) -> ReleasedKeys:
    """The keys in *release*, which came under the lease *lease_id*, for the VM of *ticket*.

    Raises:
        LaunchError: ``keys_unopened``: they are of something else; ``marks_malformed``.
    """
    if release.vm_id != ticket.ticket.vm_id:
        raise LaunchError("keys_unopened", "for another VM than the ticket's")
    info = release_info(ticket.sha256, release.vm_id, release.epoch, lease_id, release.nonce)
    count = 1 + len(ticket.ticket.images)
    vm_key, *images = unwrap_keys(release.wrapped_keys, boot_key, info, count=count)
    if isinstance(release, MovePrepared):
        vtpm_mark = check_marks(release.marks)[:MARK_BYTES]
        return ReleasedKeys(vm_key, tuple(images), release.epoch, None, release.receipt, marks=vtpm_mark)
    return ReleasedKeys(
        vm_key,
        tuple(images),
        release.epoch,
        release.disk_root or None,
        release.receipt,
        release.generation,
        release.state_root,
        check_marks(release.marks),
    )


def not_started(
    vm_id: bytes,
    had: KeyRelease | ReleasedKeys,
    *,
    reason: str = "not_started",
    left: tuple[bytes, bytes] = (b"", b""),
) -> NodeReport:
    """What is to be said of a VM that was released to us and has never run: it is as it was before.

    Args:
        left: Root and marks of its disks, if they were opened and closed in the meantime.
    """
    root, marks = left[0] or had.disk_root or b"", left[1] or had.marks
    if had.generation:
        return VmSuspended(vm_id, had.epoch, had.generation, had.state_root, root, marks)
    return VmEnded(vm_id, had.epoch, root, marks, reason)
