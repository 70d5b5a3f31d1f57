"""What a node signs when nothing is left of a VM there, and the file that the tenant gets.

The log's entry names the statement by its hash, and the boot that signed it by the hash of its identity.
"""

import hashlib
from dataclasses import dataclass

from nacl.signing import SigningKey

from tccp.errors import LaunchError, ProtocolError
from tccp.protocol import fields as f
from tccp.protocol.boot_statement import sign_statement, signed_by_boot
from tccp.protocol.encoding import Message, decode

DESTRUCTION_DOMAIN = "tccp/v1/vm-destroyed"


class Destruction(Message, frozen=True):
    """Wiped here: keys, memory, state of the vTPM, disks and suspended states of this VM."""

    domain: str
    vm_id: f.Id16
    epoch: f.Epoch
    node: f.Name
    boot_id: f.Id16
    destroyed_ms: f.UnixMilliseconds


class DestructionReceipt(Message, frozen=True, tag="destruction_receipt"):
    """The file that the tenant gets."""

    statement: f.Statement  # Destruction, exactly these bytes
    signature: f.Ed25519Signature
    identity: f.Statement  # of the boot that signed it
    log_receipt: f.LogReceipt  # of the event


@dataclass(frozen=True, slots=True)
class SignedDestruction:
    """A destruction that the boot which it names has signed. Only `verify_destruction_statement` makes one."""

    destruction: Destruction
    sha256: bytes


def sign_destruction(destruction: Destruction, key: SigningKey) -> tuple[bytes, bytes]:
    """The statement and its signature."""
    assert destruction.domain == DESTRUCTION_DOMAIN
    return sign_statement(destruction, key)


def verify_destruction_statement(statement: bytes, signature: bytes, *, identity: bytes) -> SignedDestruction:
    """The statement, if the boot of *identity* has signed it and speaks of itself.

    Args:
        identity: An identity statement that somebody vouches for.

    Raises:
        LaunchError: ``destruction_malformed``, ``destruction_signature``, ``destruction_of_another``.
    """
    destruction: Destruction
    boot, destruction = signed_by_boot(statement, signature, Destruction, identity=identity, word="destruction")
    if destruction.domain != DESTRUCTION_DOMAIN:
        raise LaunchError("destruction_malformed", f"of the domain {destruction.domain!r}")
    if (destruction.node, destruction.boot_id) != (boot.node, boot.boot_id):
        raise LaunchError("destruction_of_another", f"{boot.node} speaks of {destruction.node}")
    return SignedDestruction(destruction, hashlib.sha256(statement).digest())


def read_destruction_receipt(content: bytes) -> DestructionReceipt:
    """The receipt in a file; nothing of it is verified.

    Raises:
        LaunchError: ``receipt_malformed``.
    """
    try:
        receipt: DestructionReceipt = decode(content, DestructionReceipt)
    except ProtocolError as problem:
        raise LaunchError("receipt_malformed", f"no destruction receipt: {problem.detail}") from None
    return receipt
