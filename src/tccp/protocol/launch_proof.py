"""Message 5 of a launch: the node that runs a VM answers the nonce of its tenant, under a key that only the VM has.

    VM's key, tenant's nonce --HKDF--> proof key --HMAC--> proof: this ticket, this epoch, this node, this vTPM

Whoever can make it holds the VM's key: the tenant, the coordinator, or whom the coordinator has released it to. The
receipt of that release in the coordinator's log says who that is; together they are the launch receipt, a file.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import LaunchError, ProtocolError
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.statements import IdentityStatement, decode_identity
from tccp.protocol.ticket import VerifiedTicket, verify_ticket

DOMAIN = "tccp/v1/launch-proof"
PROOF_KEY_INFO = b"tccp/v1/launch-proof-key\0"
RECEIPT_BYTES_MAX = 1 << 19


class LaunchProof(Message, frozen=True):
    """What the node says of the VM that it has started."""

    domain: str
    ticket_sha256: f.Digest32
    nonce: f.Nonce32  # the ticket's
    vm_id: f.Id16
    epoch: f.Epoch
    identity: f.Statement  # IdentityStatement of the node's boot, which the coordinator's log names by its hash
    started_ms: f.UnixMilliseconds
    ek_certificate: f.CertificateOrNone  # of the VM's vTPM, DER; empty when it has none


class LaunchReceipt(Message, frozen=True, tag="launch_receipt"):
    """The file that the tenant gets: everything that is needed to verify a launch, and nothing secret."""

    ticket: f.TicketBytes
    ticket_signature: f.Ed25519Signature
    proof: Annotated[bytes, Meta(min_length=1, max_length=32_768)]  # LaunchProof, exactly these bytes
    mac: f.Digest32
    signature: f.Ed25519Signature  # over *proof*, by the signing key of the node's boot
    log_receipt: f.LogReceipt  # of the release


@dataclass(frozen=True, slots=True)
class VerifiedProof:
    """A launch proof that was made under the VM's key, and signed by the boot that it names."""

    ticket: VerifiedTicket
    proof: LaunchProof
    identity: IdentityStatement

    @property
    def identity_sha256(self) -> bytes:
        """By which the log names that boot."""
        return hashlib.sha256(self.proof.identity).digest()


def proof_key(vm_key: Any, nonce: bytes, vm_id: bytes, ticket_sha256: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of the VM's key, one block.

    Args:
        vm_key: 32 bytes, in any object with a buffer.
    """
    extracted = hmac.digest(nonce, memoryview(vm_key), "sha256")
    return hmac.digest(extracted, PROOF_KEY_INFO + vm_id + ticket_sha256 + b"\x01", "sha256")


def prove_launch(proof: LaunchProof, *, vm_key: Any, signing_key: SigningKey) -> tuple[bytes, bytes, bytes]:
    """The bytes of *proof*, its MAC and its signature."""
    assert proof.domain == DOMAIN
    body = encode(proof)
    key = proof_key(vm_key, proof.nonce, proof.vm_id, proof.ticket_sha256)
    return body, hmac.digest(key, body, "sha256"), signing_key.sign(body).signature


def read_launch_receipt(content: bytes) -> LaunchReceipt:
    """The launch receipt in a file; nothing of it is verified.

    Raises:
        LaunchError: ``receipt_malformed``.
    """
    try:
        receipt: LaunchReceipt = decode(content, LaunchReceipt)
    except ProtocolError as problem:
        raise LaunchError("receipt_malformed", f"no launch receipt: {problem.detail}") from None
    return receipt


def verify_proof(receipt: LaunchReceipt, *, vm_key: Any, ticket_sha256: bytes) -> VerifiedProof:
    """The proof in *receipt*, if it answers our ticket under our VM's key.

    Args:
        ticket_sha256: Of the ticket that we signed.

    Raises:
        LaunchError: ``another_ticket``, ``proof_mac``, ``proof_malformed``, ``proof_of_something_else``,
            ``proof_signature``; as `verify_ticket`.
    """
    ticket = verify_ticket(receipt.ticket, receipt.ticket_signature)
    if ticket.sha256 != ticket_sha256:
        raise LaunchError("another_ticket", f"of {ticket.sha256.hex()[:16]}, ours is {ticket_sha256.hex()[:16]}")
    named = ticket.ticket
    key = proof_key(vm_key, named.nonce, named.vm_id, ticket.sha256)
    if not hmac.compare_digest(hmac.digest(key, receipt.proof, "sha256"), receipt.mac):
        raise LaunchError("proof_mac", "not made by anybody who holds the VM's key, or for another nonce")
    proof = _decode(receipt.proof)
    if (proof.ticket_sha256, proof.nonce, proof.vm_id) != (ticket.sha256, named.nonce, named.vm_id):
        raise LaunchError("proof_of_something_else", "the proof speaks of another ticket")
    identity = _identity(proof.identity)
    try:
        VerifyKey(identity.signing_key).verify(receipt.proof, receipt.signature)
    except (BadSignatureError, ValueError):
        raise LaunchError("proof_signature", "the boot that the proof names has not signed it") from None
    return VerifiedProof(ticket, proof, identity)


def _decode(body: bytes) -> LaunchProof:
    try:
        proof: LaunchProof = decode(body, LaunchProof)
    except ProtocolError as problem:
        raise LaunchError("proof_malformed", problem.detail) from None
    if proof.domain != DOMAIN:
        raise LaunchError("proof_malformed", f"of the domain {proof.domain!r}")
    return proof


def _identity(statement: bytes) -> IdentityStatement:
    try:
        return decode_identity(statement)
    except ProtocolError as problem:
        raise LaunchError("proof_malformed", problem.detail) from None
