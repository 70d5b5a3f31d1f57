"""Message 5: only who holds the VM's key can make it, for one ticket, and it names one boot of one node."""

import hashlib
import hmac

import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.signing import SigningKey

from tccp.errors import LaunchError
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
from tccp.protocol.statements import NODE_DOMAIN, IdentityStatement, encode_statement
from tccp.protocol.ticket import SignedTicket, sign_ticket, verify_ticket
from tests.protocol.test_ticket import GOOD
from tests.vectors.launch.make import TENANT

VM_KEY, NODE_KEY = b"\x21" * 32, SigningKey(b"\x22" * 32)
TICKET = verify_ticket(GOOD.ticket, GOOD.signature)
IDENTITY = encode_statement(
    IdentityStatement(NODE_DOMAIN, "alpha", b"b" * 16, b"t" * 91, b"h" * 1216, bytes(NODE_KEY.verify_key), "1")
)
PROOF = LaunchProof(
    DOMAIN, TICKET.sha256, TICKET.ticket.nonce, TICKET.ticket.vm_id, 1, IDENTITY, 1_800_000_000_000, b""
)


def receipt(proof: LaunchProof = PROOF, *, vm_key: bytes = VM_KEY, signing_key: SigningKey = NODE_KEY) -> LaunchReceipt:
    body, mac, signature = prove_launch(proof, vm_key=vm_key, signing_key=signing_key)
    return LaunchReceipt(GOOD.ticket, GOOD.signature, body, mac, signature, b"r" * 64)


def refusal_of(found: LaunchReceipt) -> str:
    with pytest.raises(LaunchError) as refusal:
        verify_proof(found, vm_key=VM_KEY, ticket_sha256=TICKET.sha256)
    return refusal.value.reason


def changed(**fields: object) -> LaunchReceipt:
    return msgspec.structs.replace(receipt(), **fields)


def another_ticket() -> SignedTicket:
    return sign_ticket(msgspec.structs.replace(TICKET.ticket, nonce=b"m" * 32), TENANT)


def test_a_proof_under_the_vms_key_says_which_boot_of_which_node_runs_it() -> None:
    verified = verify_proof(receipt(), vm_key=VM_KEY, ticket_sha256=TICKET.sha256)

    assert (verified.identity.node, verified.proof) == ("alpha", PROOF)
    assert (verified.ticket, verified.identity_sha256) == (TICKET, hashlib.sha256(IDENTITY).digest())
    assert read_launch_receipt(encode(receipt())) == receipt()


def test_who_has_not_the_key_proves_nothing() -> None:
    assert refusal_of(receipt(vm_key=b"\x23" * 32)) == "proof_mac"
    assert refusal_of(changed(mac=bytes(32))) == "proof_mac"


def test_a_proof_answers_one_nonce_and_one_ticket() -> None:
    old = another_ticket()

    assert refusal_of(changed(ticket=old.ticket, ticket_signature=old.signature)) == "another_ticket"
    newer = verify_ticket(old.ticket, old.signature)
    replayed = changed(ticket=old.ticket, ticket_signature=old.signature)
    with pytest.raises(LaunchError, match="proof_mac"):
        verify_proof(replayed, vm_key=VM_KEY, ticket_sha256=newer.sha256)


def test_a_proof_that_was_made_with_the_key_must_speak_of_the_ticket() -> None:
    for field, value in (("ticket_sha256", bytes(32)), ("nonce", bytes(32)), ("vm_id", bytes(16))):
        body = encode(msgspec.structs.replace(PROOF, **{field: value}))
        key = proof_key(VM_KEY, TICKET.ticket.nonce, TICKET.ticket.vm_id, TICKET.sha256)
        forged = changed(proof=body, mac=hmac.digest(key, body, "sha256"))
        assert refusal_of(forged) == "proof_of_something_else"


def test_the_boot_that_is_named_must_have_signed() -> None:
    assert refusal_of(receipt(signing_key=SigningKey(b"\x24" * 32))) == "proof_signature"
    assert refusal_of(changed(signature=bytes(64))) == "proof_signature"


def test_a_proof_names_an_identity_and_is_of_its_domain() -> None:
    assert refusal_of(receipt(msgspec.structs.replace(PROOF, identity=b"nobody"))) == "proof_malformed"
    key = proof_key(VM_KEY, TICKET.ticket.nonce, TICKET.ticket.vm_id, TICKET.sha256)
    for body in (encode(msgspec.structs.replace(PROOF, domain="tccp/v1/ticket")), b"\xc0"):
        assert refusal_of(changed(proof=body, mac=hmac.digest(key, body, "sha256"))) == "proof_malformed"


def test_a_file_that_is_no_launch_receipt_is_refused() -> None:
    for content in (b"", encode(receipt()) + b"\x00", encode(PROOF)):
        with pytest.raises(LaunchError) as refused:
            read_launch_receipt(content)
        assert refused.value.reason == "receipt_malformed"


def test_the_proof_key_is_hkdf() -> None:
    info = b"tccp/v1/launch-proof-key\0" + b"v" * 16 + b"t" * 32
    expected = HKDF(SHA256(), 32, salt=b"n" * 32, info=info).derive(VM_KEY)

    assert proof_key(VM_KEY, b"n" * 32, b"v" * 16, b"t" * 32) == expected
