"""The test vectors of docs/PROTOCOL.md: what its formulas give, what the code gives, and what is printed there."""

import hashlib

from tccp.merkle import merkle_tree
from tccp.protocol import binding, statements
from tccp.protocol.binding import Channel
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame
from tccp.protocol.messages import Refused, RenewalChallenge
from tests.protocol.test_document import rows

NONCE, LEASE = b"\1" * 32, b"\5" * 16
CHANNEL = Channel(b"\2" * 32, b"\3" * 32, b"\4" * 32)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def vectors_of_the_text() -> list[bytes]:
    """Worked out from the document's formulas alone."""
    channel = CHANNEL.coordinator_id + CHANNEL.coordinator_spki + CHANNEL.node_spki
    leaf = sha256(b"tccp/v1/quote/coordinator-leaf\0", NONCE, channel)
    left = sha256(b"\1", sha256(b"\0", leaf), sha256(b"\0", b"\6" * 32))
    root = sha256(b"\1", left, sha256(b"\0", b"\7" * 32))
    return [
        sha256(b"tccp/v1/coordinator-id\0", bytes(32)),
        sha256(b"tccp/v1/coordinator-id\0", bytes(32)).hex()[:32].encode() + b".tccp.internal/log",
        sha256(b"tccp/v1/quote/registration\0", NONCE, channel, sha256(b"identity")),
        sha256(b"tccp/v1/quote/renewal\0", NONCE, channel, LEASE, sha256(b"identity")),
        leaf,
        sha256(b"tccp/v1/quote/tenant-leaf\0", NONCE, CHANNEL.coordinator_id, CHANNEL.coordinator_spki),
        sha256(b"tccp/v1/quote/coordinator-start\0", b"\2" * 32, bytes([0, 0, 0, 0, 0, 1, 0, 0]), b"\x08" * 32),
        root,
        sha256(b"tccp/v1/quote/coordinator\0", root, sha256(b"statement")),
        bytes.fromhex("00000016 92") + b"\xa7refused" + b"\xacnot_enrolled",
        bytes.fromhex("0000004b 95 b1") + b"renewal_challenge\xc4\x10" + LEASE + b"\xc4\x20" + NONCE + b"\x0b\x92\0\4",
    ]


def vectors_of_the_code() -> list[bytes]:
    leaf = binding.coordinator_leaf(NONCE, CHANNEL)
    root, _ = merkle_tree([leaf, b"\6" * 32, b"\7" * 32])
    return [
        statements.coordinator_id(bytes(32)),
        statements.log_origin(statements.coordinator_id(bytes(32))).encode(),
        binding.registration(NONCE, CHANNEL, b"identity"),
        binding.renewal(NONCE, CHANNEL, LEASE, b"identity"),
        leaf,
        binding.tenant_leaf(NONCE, CHANNEL.coordinator_id, CHANNEL.coordinator_spki),
        binding.coordinator_start(b"\2" * 32, 65_536, b"\x08" * 32),
        root,
        binding.coordinator(root, b"statement"),
        frame(encode(Refused("not_enrolled"))),
        frame(encode(RenewalChallenge(LEASE, NONCE, 11, (0, 4)))),
    ]


def test_the_vectors_are_those_of_the_text_and_of_the_code() -> None:
    listed = [bytes.fromhex(row[1].strip("`")) for row in rows("Test vectors")]

    assert listed == vectors_of_the_text() == vectors_of_the_code()
