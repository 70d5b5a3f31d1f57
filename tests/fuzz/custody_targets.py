"""Fuzz targets for the files around a coordinator's keys, as in targets.py."""

import base64
import datetime as dt
import functools
import secrets

import msgspec
from nacl.signing import SigningKey

from tccp.coordinator.custody import approval as ap
from tccp.coordinator.custody import sealed_file as sf
from tccp.coordinator.custody import shares as sh
from tccp.coordinator.custody.authority import authority_id, make_authority
from tccp.coordinator.custody.journal import parse_journal
from tccp.coordinator.custody.key_set import KeySet, fresh_key_set
from tccp.errors import ConfigError
from tccp.image.keys import RecipientSecretKey
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.protocol.encoding import encode
from tccp.tpm import SealedBlob
from tccp.tpm.policy import Approved

OFFICERS = [RecipientSecretKey.from_seed(bytes([number]) * 32) for number in range(2)]
AUTHORITY = make_authority()


def feed_request(data: bytes) -> bool:
    """A request that is accepted says the same when it is written again."""
    try:
        request = ap.parse_request(data)
    except ConfigError:
        return False
    assert ap.parse_request(ap.write_request(request)) == request
    return True


def feed_approval(data: bytes) -> bool:
    """Likewise, an approval; whether it holds is another question, and it has an answer."""
    try:
        signed = ap.parse_approval(data)
    except ConfigError:
        return False
    assert ap.parse_approval(ap.write_approval(signed)) == signed
    try:
        assert signed.verified(AUTHORITY.public_key(), bytes(32)).tpm_signature
    except ConfigError:
        return True
    return True


def approvals() -> tuple[list[bytes], list[bytes]]:
    """Requests, and approvals of them."""
    requests = []
    for bank, indexes in ((PcrBank.SHA256, (0, 4)), (PcrBank.SHA384, (0, 7, 14))):
        values = {index: bytes(bank.digest_bytes) for index in indexes}
        approved = Approved(PcrValues(PcrSelection(bank, indexes), values), 5)
        requests.append(ap.Request(bytes(32), authority_id(AUTHORITY.public_key()), approved))
    signed = [ap.write_approval(ap.approve(request, AUTHORITY)) for request in requests]
    return [ap.write_request(request) for request in requests], signed


def feed_sealed_keys(data: bytes) -> bool:
    """A sealed file, or the header of one; without the right key none opens."""
    return _sealed(data) or _sealed(encode(sf._File(sf.DOMAIN, data[:8192] or b"h", bytes(24), bytes(16))))


def _sealed(data: bytes) -> bool:
    try:
        sealed = sf.parse_sealed_keys(data)
    except ConfigError:
        return False
    try:
        sf.open_sealed_keys(sealed, bytes(32))
    except ConfigError:
        return True
    raise AssertionError("opened")


@functools.cache
def _keys() -> KeySet:
    return fresh_key_set(now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


def sealed_files() -> list[bytes]:
    """A whole file, and a header."""
    blob = SealedBlob(bytes(34), b"public", b"private")
    whole = sf.write_sealed_keys(_keys(), AUTHORITY.public_key(), blob, secrets.token_bytes(32))
    return [whole, sf.parse_sealed_keys(whole).header]


def feed_share(data: bytes) -> bool:
    """The bytes of a share in their text; one that is accepted says the same when it is written again."""
    return _share(data)


def feed_share_statement(data: bytes) -> bool:
    """A statement that the coordinator would have signed, whatever it is."""
    signature = SigningKey(_keys().identity_seed).sign(data).signature
    return bool(data) and _share(encode(sh._File(sh.FILE_DOMAIN, data, signature, bytes(32), b"wrapped")))


def _share(file: bytes) -> bool:
    text = b"-----BEGIN TCCP KEY SHARE-----\n" + base64.b64encode(file) + b"\n-----END TCCP KEY SHARE-----\n"
    try:
        share = sh.parse_share(text)
    except ConfigError:
        return False
    assert sh.parse_share(sh.write_share(share)) == share
    try:
        sh.restore_keys([share, share], OFFICERS)
    except ConfigError:
        return True
    raise AssertionError("restored from one share")


def feed_share_text(data: bytes) -> bool:
    """A share as text."""
    try:
        sh.parse_share(data)
    except ConfigError:
        return False
    return True


@functools.cache
def _shares() -> list[sh.Share]:
    officers = [("ann", OFFICERS[0].public), ("bob", OFFICERS[1].public)]
    return sh.make_shares(_keys(), officers, 2, made_ms=1)


def share_files() -> list[bytes]:
    """What is inside the text."""
    return [
        encode(sh._File(sh.FILE_DOMAIN, share.statement_bytes, share.signature, share.key_id, share.wrapped))
        for share in _shares()
    ]


def share_statements() -> list[bytes]:
    """What is signed inside of that."""
    return [share.statement_bytes for share in _shares()]


def share_texts() -> list[bytes]:
    """What an officer keeps."""
    return [sh.write_share(share) for share in _shares()]


def feed_journal(data: bytes) -> bool:
    """A journal, of which each whole line is an event that the log can hold; or a refusal."""
    try:
        events = parse_journal(data)
    except ConfigError:
        return False
    assert len(events) <= data.count(b"\n") + data.count(b"\r")
    assert all("journal_id" in msgspec.msgpack.decode(event.body) for event in events)
    return True


def journals() -> list[bytes]:
    """One with two events."""
    line = {"id": "00" * 16, "kind": "keys_sealed", "done_ms": 1, "facts": {"generation": 1, "authority": "ab"}}
    return [2 * (msgspec.json.encode(line) + b"\n")]
