"""From a ticket and files to a VM that may be started: what the node does itself, in order.

    ticket: signed, for our coordinator --> a file for each image, by its root --> keys from the coordinator
      --> each header under its key --> (the hypervisor) --> the proof for the tenant

Everything that an administrator hands over is foreign: a wrong file costs her a clear refusal before any key is asked
for, and nothing else.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tccp.core.image import ImageKey, image_header_check
from tccp.errors import HostError, LaunchError, SealedImageError
from tccp.image.sealed import SealedImage, read_sealed_image
from tccp.node.identity import NodeIdentity
from tccp.node.key_desk import KeyDesk
from tccp.node.released import ReleasedKeys
from tccp.node.vm.foreign import abandonable, open_foreign
from tccp.node.vm.streams import Streams
from tccp.protocol.encoding import encode
from tccp.protocol.launch_proof import DOMAIN, LaunchProof, LaunchReceipt, prove_launch
from tccp.protocol.ticket import (
    SignedTicket,
    TicketImage,
    VerifiedTicket,
    check_addressee,
    read_ticket_file,
    verify_ticket,
)


@dataclass(frozen=True, slots=True)
class AcceptedTicket:
    """A ticket that its tenant signed for our coordinator. Only `accept_ticket` makes one."""

    signed: SignedTicket
    verified: VerifiedTicket


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A file that claims to be an image of the ticket: it has the root that the ticket names."""

    named: TicketImage
    path: Path
    sealed: SealedImage = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenableImage:
    """An image with its key; the header was checked under it."""

    role: str
    path: Path
    sealed: SealedImage = field(repr=False)
    key: ImageKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class VmOrder:
    """Everything that a hypervisor needs to start a VM, or to have it go on, once.

    Attributes:
        state: The file of a suspended state; or else
        incoming: what another node sends.
    """

    ticket: VerifiedTicket
    images: tuple[OpenableImage, ...]
    keys: ReleasedKeys
    state: Path | None = None
    incoming: Streams | None = None

    def wipe(self) -> None:
        """Wipe every key; nothing of the VM can be opened here any more."""
        for key in (self.keys.vm_key, *self.keys.images):
            key.wipe()


def accept_ticket(content: bytes, coordinator_id: bytes) -> AcceptedTicket:
    """The ticket in a file, if it is one for our coordinator. Whether the tenant counts, only that can say.

    Raises:
        LaunchError: As `verify_ticket` and `check_addressee`.
    """
    signed = read_ticket_file(content)
    verified = verify_ticket(signed.ticket, signed.signature)
    check_addressee(verified, coordinator_id)
    return AcceptedTicket(signed, verified)


@asynccontextmanager
async def named_images(ticket: VerifiedTicket, paths: Sequence[Path]) -> AsyncIterator[tuple[NamedImage, ...]]:
    """The file of each image of the ticket, open as long as the context is.

    Raises:
        LaunchError: ``image_missing``: no file has the root that the ticket names; ``image_unused``: a file is none.
        SealedImageError: A file is no sealed image.
        HostError: A file cannot be read.
    """
    with ExitStack() as stack:
        files = {}
        for path in paths:
            files[path] = await abandonable(partial(_open, path), _close)
            stack.callback(_close, files[path])
        found = []
        for named in ticket.ticket.images:
            fitting = [path for path, sealed in files.items() if _is(sealed, named)]
            if not fitting:
                root = named.root.hex()
                raise LaunchError("image_missing", f"no file is the ticket's {named.role} image, of root {root}")
            found.append(NamedImage(named, fitting[0], files[fitting[0]]))
        if unused := set(paths) - {image.path for image in found}:
            raise LaunchError("image_unused", f"{min(unused)} is no image of the ticket")
        yield tuple(found)


async def order_vm(
    desk: KeyDesk, accepted: AcceptedTicket, images: Sequence[NamedImage], state: Path | None = None
) -> VmOrder:
    """Ask for the keys; this node owns the VM afterwards, and has to report its end.

    Args:
        state: File of the suspended state from which the VM is to go on; None to start it.

    Raises:
        LaunchError: The coordinator refused.
        SealedImageError: *state* is no suspended state.
        HostError: It cannot be read.
    """
    root = b"" if state is None else await abandonable(partial(root_of_state, state))
    signed = accepted.signed
    keys = await desk.request_keys(accepted.verified, signed.ticket, signed.signature, state_root=root)
    return VmOrder(accepted.verified, openable(images, keys), keys, state)


def openable(images: Sequence[NamedImage], keys: ReleasedKeys) -> tuple[OpenableImage, ...]:
    """Each image with its key."""
    return tuple(
        OpenableImage(image.named.role, image.path, image.sealed, key)
        for image, key in zip(images, keys.images, strict=True)
    )


def root_of_state(path: Path) -> bytes:
    """The root of a suspended state, as its file claims; the hypervisor holds the file to it. May hang; for a thread.

    Raises:
        SealedImageError: It is no sealed file.
        HostError: It cannot be read.
    """
    sealed = _open(path)
    _close(sealed)
    return sealed.info.root


def check_headers(order: VmOrder) -> None:
    """Whether the keys are those of the images.

    Raises:
        SealedImageError: One is not: the tenant has wrapped another key, or the header was altered.
    """
    for image in order.images:
        image_header_check(image.sealed.header, image.sealed.info, image.key)


def launch_receipt(
    order: VmOrder, accepted: AcceptedTicket, identity: NodeIdentity, *, started_ms: int, ek_certificate: bytes
) -> bytes:
    """The file for the tenant: our answer to its nonce, and the coordinator's receipt."""
    ticket = order.ticket.ticket
    proof = LaunchProof(
        domain=DOMAIN,
        ticket_sha256=order.ticket.sha256,
        nonce=ticket.nonce,
        vm_id=ticket.vm_id,
        epoch=order.keys.epoch,
        identity=identity.statement,
        started_ms=started_ms,
        ek_certificate=ek_certificate,
    )
    body, mac, signature = prove_launch(proof, vm_key=order.keys.vm_key.buffer, signing_key=identity.signing_key)
    signed = accepted.signed
    return encode(LaunchReceipt(signed.ticket, signed.signature, body, mac, signature, order.keys.receipt))


def _open(path: Path) -> SealedImage:
    try:
        descriptor = open_foreign(path)
        with ExitStack() as unless_read:
            unless_read.callback(os.close, descriptor)
            sealed = read_sealed_image(descriptor)
            unless_read.pop_all()
    except OSError as problem:
        raise HostError("file_unreadable", f"{path}: {problem.strerror}") from None
    except SealedImageError as problem:
        raise SealedImageError(problem.reason, f"{path}: {problem.detail}", hint=problem.hint) from None
    return sealed


def _close(sealed: SealedImage) -> None:
    os.close(sealed.descriptor)


def _is(sealed: SealedImage, named: TicketImage) -> bool:
    return (sealed.info.image_id, sealed.info.root) == (named.image_id, named.root)
