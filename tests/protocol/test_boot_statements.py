"""What a boot of a node signs of a VM that it wiped or destroyed counts for this boot and this VM only."""

import hashlib

import msgspec
import pytest

from tccp.errors import LaunchError
from tccp.node.identity import make_node_identity
from tccp.protocol.destruction import (
    DESTRUCTION_DOMAIN,
    Destruction,
    DestructionReceipt,
    read_destruction_receipt,
    sign_destruction,
    verify_destruction_statement,
)
from tccp.protocol.encoding import encode
from tccp.protocol.moving import WIPED_DOMAIN, Wiped, sign_wiped, verify_wiped

ALPHA, BETA = make_node_identity("alpha"), make_node_identity("beta")
VM, MOVE = b"v" * 16, b"m" * 32
DESTROYED = Destruction(DESTRUCTION_DOMAIN, VM, 3, "alpha", ALPHA.boot_id, 1_800_000_000_000)
WIPED = Wiped(WIPED_DOMAIN, VM, 3, MOVE, "alpha", ALPHA.boot_id)


def of_a_destruction(body: bytes, signature: bytes, identity: bytes = ALPHA.statement) -> str:
    with pytest.raises(LaunchError) as refused:
        verify_destruction_statement(body, signature, identity=identity)
    return refused.value.reason


def of_a_wiped(body: bytes, signature: bytes, identity: bytes = ALPHA.statement) -> str:
    with pytest.raises(LaunchError) as refused:
        verify_wiped(body, signature, identity=identity, move=(VM, 3, MOVE))
    return refused.value.reason


def signed(body: bytes) -> tuple[bytes, bytes]:
    return body, ALPHA.signing_key.sign(body).signature


def test_a_boot_speaks_of_itself() -> None:
    body, signature = sign_destruction(DESTROYED, ALPHA.signing_key)
    verified = verify_destruction_statement(body, signature, identity=ALPHA.statement)
    assert (verified.destruction, verified.sha256) == (DESTROYED, hashlib.sha256(body).digest())

    body, signature = sign_wiped(WIPED, ALPHA.signing_key)
    found = verify_wiped(body, signature, identity=ALPHA.statement, move=(VM, 3, MOVE))
    assert found == hashlib.sha256(body).digest()


def test_an_altered_statement_or_that_of_another_boot_is_not_signed() -> None:
    body, signature = sign_destruction(DESTROYED, ALPHA.signing_key)
    assert of_a_destruction(body[:-1] + b"\1", signature) == "destruction_signature"
    assert of_a_destruction(body, signature, BETA.statement) == "destruction_signature"
    assert of_a_destruction(body, bytes(64)) == "destruction_signature"

    body, signature = sign_wiped(WIPED, ALPHA.signing_key)
    assert of_a_wiped(body[:-1] + b"\1", signature) == "wiped_signature"
    assert of_a_wiped(body, signature, BETA.statement) == "wiped_signature"
    assert of_a_wiped(body, bytes(64)) == "wiped_signature"
    assert of_a_wiped(body, b"short") == "wiped_signature"


@pytest.mark.parametrize("change", [{"node": "beta"}, {"boot_id": BETA.boot_id}])
def test_a_boot_cannot_speak_of_another(change: dict[str, object]) -> None:
    body = encode(msgspec.structs.replace(DESTROYED, **change))
    assert of_a_destruction(*signed(body)) == "destruction_of_another"

    body = encode(msgspec.structs.replace(WIPED, **change))
    assert of_a_wiped(*signed(body)) == "wiped_of_another"


@pytest.mark.parametrize(
    "change", [{"domain": DESTRUCTION_DOMAIN}, {"vm_id": b"w" * 16}, {"epoch": 2}, {"move_id": b"x" * 32}]
)
def test_wiping_for_one_move_is_not_wiping_for_another(change: dict[str, object]) -> None:
    assert of_a_wiped(*signed(encode(msgspec.structs.replace(WIPED, **change)))) == "wiped_of_another"


def test_signed_nonsense_is_nonsense() -> None:
    assert of_a_destruction(*signed(b"\xc0")) == "destruction_malformed"
    assert of_a_wiped(*signed(b"\xc0")) == "wiped_malformed"
    body, signature = sign_wiped(WIPED, ALPHA.signing_key)
    assert of_a_destruction(body, signature) == "destruction_malformed"
    assert of_a_destruction(body, signature, b"\xc0") == "destruction_malformed"
    assert of_a_wiped(body, signature, b"\xc0") == "wiped_malformed"
    other_domain = encode(msgspec.structs.replace(DESTROYED, domain="tccp/v2/vm-destroyed"))
    assert of_a_destruction(*signed(other_domain)) == "destruction_malformed"


def test_a_receipt_is_read_without_being_believed() -> None:
    receipt = DestructionReceipt(statement=b"x", signature=bytes(64), identity=b"y", log_receipt=b"z" * 64)

    assert read_destruction_receipt(encode(receipt)) == receipt
    with pytest.raises(LaunchError) as refused:
        read_destruction_receipt(encode(receipt)[:-1])
    assert refused.value.reason == "receipt_malformed"
