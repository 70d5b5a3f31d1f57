"""What the source of a move signs once it has wiped its copy: from then on it can never go on by itself."""

import hashlib

from nacl.signing import SigningKey

from tccp.errors import LaunchError
from tccp.protocol import fields as f
from tccp.protocol.boot_statement import sign_statement, signed_by_boot
from tccp.protocol.encoding import Message

WIPED_DOMAIN = "tccp/v1/vm-wiped"


class Wiped(Message, frozen=True):
    """Nothing of the VM is in the memory of this boot any more."""

    domain: str
    vm_id: f.Id16
    epoch: f.Epoch
    move_id: f.Nonce32
    node: f.Name
    boot_id: f.Id16


def sign_wiped(wiped: Wiped, key: SigningKey) -> tuple[bytes, bytes]:
    """The statement and its signature."""
    assert wiped.domain == WIPED_DOMAIN
    return sign_statement(wiped, key)


def verify_wiped(statement: bytes, signature: bytes, *, identity: bytes, move: tuple[bytes, int, bytes]) -> bytes:
    """The hash of the statement, if the boot of *identity* has signed it of itself and of this move.

    Args:
        move: VM, epoch and move.

    Raises:
        LaunchError: ``wiped_malformed``, ``wiped_signature``, ``wiped_of_another``.
    """
    wiped: Wiped
    boot, wiped = signed_by_boot(statement, signature, Wiped, identity=identity, word="wiped")
    said = (wiped.domain, wiped.vm_id, wiped.epoch, wiped.move_id, wiped.node, wiped.boot_id)
    if said != (WIPED_DOMAIN, *move, boot.node, boot.boot_id):
        raise LaunchError("wiped_of_another", f"{boot.node} speaks of {wiped.node}, or of another move")
    return hashlib.sha256(statement).digest()
