"""What tenants and providers hand to each other: tickets, launch receipts, and a tenant's VM file."""

import contextlib
import functools
import hmac

import msgspec
from nacl.signing import SigningKey

from tccp.errors import ConfigError, LaunchError
from tccp.protocol.destruction import (
    DESTRUCTION_DOMAIN,
    Destruction,
    read_destruction_receipt,
    sign_destruction,
    verify_destruction_statement,
)
from tccp.protocol.encoding import encode
from tccp.protocol.launch_proof import (
    DOMAIN,
    LaunchProof,
    LaunchReceipt,
    proof_key,
    prove_launch,
    read_launch_receipt,
    verify_proof,
)
from tccp.protocol.moving import WIPED_DOMAIN, Wiped, sign_wiped, verify_wiped
from tccp.protocol.statements import NODE_DOMAIN, IdentityStatement, encode_statement
from tccp.protocol.ticket import PREFIX, Ticket, VerifiedTicket, read_ticket_file, verify_ticket
from tccp.tenant.vm_file import VmFile, parse_vm_file
from tests.vectors.launch.make import TENANT, vectors

VM_KEY = bytes(32)


def feed_ticket(data: bytes) -> bool:
    """A ticket that its tenant signs, whatever she writes: accepted, and the same when it is said again, or refused."""
    if not data.startswith(PREFIX):
        data = PREFIX + data
    body = PREFIX + bytes(TENANT.verify_key) + data[len(PREFIX) + 32 :]
    try:
        verified = verify_ticket(body, TENANT.sign(body).signature)
    except LaunchError:
        return False
    assert msgspec.msgpack.decode(encode(verified.ticket), type=Ticket).images == verified.ticket.images
    return True


def tickets() -> list[bytes]:
    """Those of the vectors that are accepted."""
    return [ticket for _, expected, ticket, _ in vectors() if expected == "accepted"]


def feed_ticket_file(data: bytes) -> bool:
    """A file of a stranger."""
    try:
        signed = read_ticket_file(data)
        verify_ticket(signed.ticket, signed.signature)
    except LaunchError:
        return False
    return True


def ticket_files() -> list[bytes]:
    """A whole one."""
    _, _, ticket, signature = vectors()[0]
    return [msgspec.msgpack.encode(["signed_ticket", ticket, signature])]


@functools.cache
def _own_ticket() -> VerifiedTicket:
    _, _, ticket, signature = vectors()[0]
    return verify_ticket(ticket, signature)


def feed_launch_receipt(data: bytes) -> bool:
    """A receipt whose proof somebody with the VM's key has made: what she says in it is parsed."""
    own = _own_ticket()
    try:
        receipt = read_launch_receipt(data)
        key = proof_key(VM_KEY, own.ticket.nonce, own.ticket.vm_id, own.sha256)
        receipt = msgspec.structs.replace(receipt, mac=hmac.digest(key, receipt.proof, "sha256"))
        verify_proof(receipt, vm_key=VM_KEY, ticket_sha256=own.sha256)
    except LaunchError:
        return False
    return True


def launch_receipts() -> list[bytes]:
    """A whole one."""
    own, key = _own_ticket(), SigningKey(bytes(32))
    identity = IdentityStatement(NODE_DOMAIN, "alpha", bytes(16), bytes(91), bytes(1216), bytes(key.verify_key), "1")
    statement = encode_statement(identity)
    proof = LaunchProof(DOMAIN, own.sha256, own.ticket.nonce, own.ticket.vm_id, 1, statement, 1, b"")
    body, mac, signature = prove_launch(proof, vm_key=VM_KEY, signing_key=key)
    _, _, ticket, ticket_signature = vectors()[0]
    return [encode(LaunchReceipt(ticket, ticket_signature, body, mac, signature, bytes(64)))]


def feed_vm_file(data: bytes) -> bool:
    """A VM file, which can be written and read again."""
    try:
        vm = parse_vm_file(data)
    except ConfigError:
        return False
    assert parse_vm_file(encode(vm)) == vm
    return True


def vm_files() -> list[bytes]:
    """One without tickets, one with two."""
    return [encode(VmFile(bytes(16), bytes(32), tickets)) for tickets in ((), (bytes(32), b"\x01" * 32))]


def _identity() -> bytes:
    """Of a boot that signs with the tenant's key."""
    return encode_statement(
        IdentityStatement(
            domain=NODE_DOMAIN,
            node="alpha",
            boot_id=bytes(16),
            tls_spki=bytes(64),
            hpke_key=bytes(1216),
            signing_key=bytes(TENANT.verify_key),
            software="1",
        )
    )


def feed_wiped(data: bytes) -> bool:
    """What the source of a move signs, whatever it says."""
    move = (bytes(16), 1, bytes(32))
    try:
        verify_wiped(data, TENANT.sign(data).signature, identity=_identity(), move=move)
    except LaunchError:
        return False
    return True


def wiped() -> list[bytes]:
    """One that holds."""
    return [sign_wiped(Wiped(WIPED_DOMAIN, bytes(16), 1, bytes(32), "alpha", bytes(16)), TENANT)[0]]


def feed_destruction(data: bytes) -> bool:
    """A statement that the boot itself signs, whatever it says; and the same bytes as the file of a receipt."""
    identity = _identity()
    with contextlib.suppress(LaunchError):
        read_destruction_receipt(data)
    try:
        verify_destruction_statement(data, TENANT.sign(data).signature, identity=identity)
    except LaunchError:
        return False
    return True


def destructions() -> list[bytes]:
    """One that holds."""
    said = Destruction(DESTRUCTION_DOMAIN, bytes(16), 1, "alpha", bytes(16), 1_000)
    return [sign_destruction(said, TENANT)[0]]
