"""A tenant with a VM, and nodes that ask for its keys step by step: the bench for attacks on a launch."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio
from nacl.signing import SigningKey

from tccp.core.image import ImageKey
from tccp.image.entrusting import unwrap_keys
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.sealed import unlock_image
from tccp.node.registration import NodeTpm
from tccp.protocol.encoding import encode
from tccp.protocol.messages import (
    KeyRefused,
    KeyRelease,
    KeyRequest,
    RenewalChallenge,
    Renewed,
    VmEnded,
    VmEndRecorded,
)
from tccp.protocol.statements import log_origin
from tccp.protocol.ticket import PolicyDemand, Role, SignedTicket, VmShape, release_info, verify_ticket
from tccp.protocol.vm_control import AddTenant, TenantInfo
from tccp.tenant.pinned_log import PinnedLog
from tccp.tenant.vm_file import TicketTerms, UnlockedImage, VmFile, new_vm, write_ticket
from tccp.transparency.note import NoteKey
from tests.image.images import seal_bytes, sealed
from tests.support.live_coordinator import DEADLINE_S, POLICY, HonestNode, LiveCoordinator

KERNEL = VmShape(vcpus=1, memory_mib=128, firmware="direct", cmdline="console=ttyS0", networks=())
DISK = VmShape(vcpus=1, memory_mib=128, firmware="uefi", cmdline="", networks=())


@dataclass
class SealedFile:
    """A sealed image in a file, and what is in it."""

    role: Role
    path: Path
    content: bytes = field(repr=False)


class Tenant:
    """Somebody with images, who signs tickets for the coordinator that she trusts.

    Args:
        folder: Where her images are made.
        release_key: Of the coordinator.
    """

    def __init__(self, folder: Path, coordinator_id: bytes, release_key: bytes) -> None:
        self.folder = folder
        self.key = SigningKey.generate()
        self.recipient = RecipientSecretKey.from_seed(os.urandom(32))
        now = int(time.time())
        self.terms = TicketTerms(
            coordinator_id=coordinator_id,
            release_key=RecipientPublicKey(release_key),
            not_before_s=now - 600,
            not_after_s=now + 3600,
            shape=DISK,
            policy=PolicyDemand(POLICY, 1, {}),
            attributes={},
        )

    @classmethod
    def of(cls, folder: Path, coordinator: LiveCoordinator) -> "Tenant":
        """A tenant of *coordinator*, who is not enrolled there yet."""
        keys = coordinator.services.identity.keys
        return cls(folder, keys.coordinator_id, keys.release_key.public.raw)

    async def enrol(self, coordinator: LiveCoordinator, name: str = "acme") -> None:
        """Have her tickets count."""
        await coordinator.ask(AddTenant(name=name, key=bytes(self.key.verify_key)), TenantInfo)

    def seal(self, name: str, content: bytes, role: Role = "disk") -> SealedFile:
        """An image of hers."""
        path = self.folder / f"{name}.sealed"
        seal_bytes(path, content, self.recipient.public, tenant=self.key)
        return SealedFile(role, path, content)

    def unlock(self, image: SealedFile) -> UnlockedImage:
        """The image with its key, as a ticket needs it."""
        with sealed(image.path) as found:
            return UnlockedImage(image.role, found.info, unlock_image(found, self.recipient))

    def ticket(
        self, images: Sequence[SealedFile], vm: VmFile | None = None, **changes: Any
    ) -> tuple[SignedTicket, VmFile]:
        """A ticket for *vm* (a new one by default), with other terms where *changes* says so."""
        unlocked = [self.unlock(image) for image in images]
        return write_ticket(vm or new_vm(), unlocked, replace(self.terms, **changes), self.key)


def trust_of(coordinator: LiveCoordinator) -> PinnedLog:
    """What a tenant has pinned."""
    keys = coordinator.services.identity.keys
    origin = log_origin(keys.coordinator_id)
    return PinnedLog(keys.coordinator_id, origin, NoteKey(origin, keys.log_key))


class AskingNode(HonestNode):
    """An honest node that asks for keys."""

    def __init__(self, coordinator: LiveCoordinator, name: str, host: NodeTpm) -> None:
        super().__init__(coordinator, name, host)
        self.challenges = 0

    def request(self, signed: SignedTicket, nonce: bytes | None = None) -> KeyRequest:
        """What it asks."""
        return KeyRequest(signed.ticket, signed.signature, nonce or os.urandom(32))

    async def ask(self, request: KeyRequest) -> KeyRelease | KeyRefused:
        """Ask, and answer for its state as often as the coordinator wants to know meanwhile."""
        await self.connection.send(request)
        return await self.answer_until_told(request.nonce)

    async def answer_until_told(self, nonce: bytes) -> KeyRelease | KeyRefused:
        """Answer challenges until the keys, or their refusal, come."""
        with trio.fail_after(DEADLINE_S):
            while True:
                message = await self.connection.receive_any()
                if isinstance(message, RenewalChallenge):
                    self.challenges += 1
                    await self.connection.send(await self.answer_renewal(message))
                elif isinstance(message, KeyRelease | KeyRefused):
                    assert message.nonce == nonce
                    return message
                else:
                    assert isinstance(message, Renewed)

    async def keys(self, signed: SignedTicket) -> list[bytes]:
        """Ask and be given: the VM's key, then those of its images."""
        request = self.request(signed)
        release = await self.ask(request)
        assert isinstance(release, KeyRelease), release
        return [bytes(key.buffer) for key in self.open(request, release)]

    async def reason(self, signed: SignedTicket) -> str:
        """Ask and be refused: why."""
        refusal = await self.ask(self.request(signed))
        assert isinstance(refusal, KeyRefused), "released"
        return refusal.reason

    def open(self, request: KeyRequest, release: KeyRelease) -> list[ImageKey]:
        """The keys in *release*, with this boot's key."""
        verified = verify_ticket(request.ticket, request.signature)
        info = release_info(verified.sha256, release.vm_id, release.epoch, self.lease_id, request.nonce)
        count = 1 + len(verified.ticket.images)
        return unwrap_keys(release.wrapped_keys, self.identity.release_key, info, count=count)

    async def end(self, vm: VmFile, epoch: int = 1, disk_root: bytes = b"", marks: bytes = b"") -> None:
        """Say that a VM has ended, until it is recorded."""
        await self.connection.send(VmEnded(vm.vm_id, epoch, disk_root, marks, "shut_down"))
        await self.receive(VmEndRecorded)


def ticket_file(signed: SignedTicket) -> bytes:
    """The content of a ticket's file."""
    return encode(signed)
