"""What a virtual machine's surroundings read: QEMU's lines, certificates of vTPMs, what states begin with."""

import datetime as dt
import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from nacl.signing import SigningKey

from tccp.attestation.vtpm_certificate import VtpmClaim, decode_claim, verify_vtpm_certificate
from tccp.errors import EnrolmentError, HostError
from tccp.node.remains import Remains, read_remains
from tccp.node.vm.certificates import VtpmIssuer, VtpmKeys
from tccp.node.vm.preamble import LENGTH_BYTES, Preamble, decode_preamble, encode_preamble
from tccp.node.vm.qmp import parse_line
from tccp.node.vm.talk import decode_word
from tccp.protocol.encoding import encode
from tccp.protocol.transfer import DestinationWord, SourceWord, TransferHere, TransferProgress, TransferSent
from tccp.transport.certificates import spki_of_key

STATEMENT = b"a statement"
KEY = ec.derive_private_key(4711, ec.SECP256R1())
SIGNER = SigningKey(hashlib.sha256(b"a node").digest())
CLAIM = VtpmClaim(bytes(16), hashlib.sha256(STATEMENT).digest(), (("kernel", bytes(32)), ("disk", b"\x01" * 32)))


def feed_qmp_line(data: bytes) -> bool:
    """An object or a refusal."""
    try:
        return isinstance(parse_line(data), dict)
    except HostError:
        return False


def qmp_lines() -> list[bytes]:
    return [b'{"return": {}, "id": 1}', b'{"event": "SHUTDOWN", "data": {"guest": true}}', b'{"error": {"desc": "no"}}']


def feed_vtpm_claim(data: bytes) -> bool:
    """There is one way to say a claim."""
    try:
        claim = decode_claim(data)
    except EnrolmentError:
        return False
    assert claim.encode() == data
    return True


def vtpm_claims() -> list[bytes]:
    return [CLAIM.encode(), VtpmClaim(bytes(16), bytes(32), ()).encode()]


def feed_vtpm_certificate(data: bytes) -> bool:
    """What is accepted is what was signed."""
    key = bytes(SIGNER.verify_key)
    try:
        verified = verify_vtpm_certificate(data, "ak", statement=STATEMENT, signing_key=key)
    except EnrolmentError:
        return False
    assert verified.claim == CLAIM
    return True


def vtpm_certificates() -> list[bytes]:
    issuer = VtpmIssuer("alpha", SIGNER, STATEMENT)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return [issuer.certify("ak", spki_of_key(KEY), CLAIM, now=now)]


def feed_state_preamble(data: bytes) -> bool:
    """A VM and two keys, or a refusal."""
    try:
        preamble = decode_preamble(data)
        VtpmIssuer("alpha", SIGNER, STATEMENT).certify_keys(preamble.vtpm, CLAIM)
    except (HostError, ValueError):
        return False
    return True


def state_preambles() -> list[bytes]:
    return [encode_preamble(Preamble(bytes(16), VtpmKeys(spki_of_key(KEY), spki_of_key(KEY))))[LENGTH_BYTES:]]


def feed_transfer_word(data: bytes) -> bool:
    """A word that says the same when it is said again, or a refusal."""
    try:
        word = decode_word(data, SourceWord | DestinationWord)
    except HostError:
        return False
    assert decode_word(encode(word), SourceWord | DestinationWord) == word
    return True


def transfer_words() -> list[bytes]:
    return [encode(TransferProgress(9, 8, 7, 6, 5, 4, 3)), encode(TransferSent(1, 2, 3, 4)), encode(TransferHere())]


def feed_remains(data: bytes) -> bool:
    """A note of a VM, or a refusal."""
    try:
        return bool(read_remains(data).word)
    except HostError:
        return False


def remains() -> list[bytes]:
    ticket, signature = bytes(100), bytes(64)
    return [
        encode(Remains("here", ticket, signature, 1, 0, "", b"")),
        encode(Remains("suspended", ticket, signature, 3, 4711, "/somewhere", b"")),
        encode(Remains("destroyed", ticket, signature, 3, 4711, "", bytes(40))),
    ]
