"""The coordinator's keys in shares: any N of M officers restore them, fewer learn nothing.

A fresh 32-byte key encrypts the keys; it is split (`shamir`), and each share is wrapped to the own key of one officer
(X-Wing, as for sealed images). A share file is text that can be printed::

    Share 1 of 3, for alice; any 2 of them restore the coordinator 93d4a911c1d6e7e2...
    -----BEGIN TCCP KEY SHARE-----
    base64 of ["tccp/v1/key-share", statement, signature, key_id, wrapped]
    -----END TCCP KEY SHARE-----

The statement says for whom and what the share is, holds the encrypted keys, and a commitment to each share of the set;
the coordinator's identity key signs it. So an altered share is recognised, and named, before anything is combined.
*wrapped* alone is not signed, since an officer may wrap his share anew for another key; what is in it must fit the
commitment.
"""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from cryptography.exceptions import InvalidTag
from msgspec import Meta
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey, VerifyKey

from tccp.coordinator.custody.key_set import KeySet, encode_key_set, take_key_set
from tccp.coordinator.custody.shamir import SHARES_MAX, combine, split
from tccp.core.memory import wipe
from tccp.errors import ConfigError, ProtocolError
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.recipients import HPKE
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.statements import coordinator_id

FILE_DOMAIN = "tccp/v1/key-share"
STATEMENT_DOMAIN = "tccp/v1/key-share-statement"
KEY_BYTES = 32
NONCE_BYTES = 24
FILE_BYTES_MAX = 65_536
BLOCK = re.compile(rb"-----BEGIN TCCP KEY SHARE-----\s([A-Za-z0-9+/=\s]+)-----END TCCP KEY SHARE-----")
LINE_CHARACTERS = 64
NAMES_SHOWN_MAX = 512
OFFICER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

ShareNumber = Annotated[int, Meta(ge=1, le=SHARES_MAX)]


class _Statement(Message, frozen=True):
    domain: str
    identity_key: f.Ed25519Key
    set_id: f.Id16
    made_ms: f.UnixMilliseconds
    threshold: ShareNumber
    number: ShareNumber
    officer: f.Name
    commitments: Annotated[tuple[f.Digest32, ...], Meta(min_length=1, max_length=SHARES_MAX)]
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    encrypted_keys: Annotated[bytes, Meta(min_length=16, max_length=32_768)]


class _File(Message, frozen=True):
    domain: str
    statement: Annotated[bytes, Meta(min_length=1, max_length=FILE_BYTES_MAX)]
    signature: f.Ed25519Signature
    key_id: f.Digest32
    wrapped: Annotated[bytes, Meta(min_length=1, max_length=2048)]


@dataclass(frozen=True, slots=True)
class Share:
    """A share file whose signature was verified: what it says is what the coordinator said.

    Attributes:
        key_id: Whose recipient key opens it now.
    """

    statement: _Statement
    statement_bytes: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    key_id: bytes
    wrapped: bytes = field(repr=False)

    @property
    def coordinator_id(self) -> bytes:
        """Whose keys it is a share of."""
        return coordinator_id(self.statement.identity_key)

    @property
    def count(self) -> int:
        """How many shares the set has."""
        return len(self.statement.commitments)

    @property
    def title(self) -> str:
        """``share 1 of 3, for alice``."""
        return f"share {self.statement.number} of {self.count}, for {self.statement.officer}"


def check_officers(officers: Sequence[tuple[str, RecipientPublicKey]], threshold: int) -> None:
    """Refuse shares that nobody should make.

    Raises:
        ConfigError: ``bad_threshold``, ``officer_twice``, ``bad_officer``.
    """
    count = len(officers)
    if not 2 <= threshold <= count <= SHARES_MAX:
        detail = f"{threshold} of {count}"
        raise ConfigError("bad_threshold", detail, hint="At least 2, and at most as many as there are officers.")
    if len({name for name, _ in officers}) < count or len({key.raw for _, key in officers}) < count:
        raise ConfigError("officer_twice", "two officers have the same name or the same key")
    for name, _ in officers:
        if not OFFICER.fullmatch(name):
            raise ConfigError("bad_officer", name, hint="A name of a-z, 0-9, '.', '_' and '-', 63 characters at most.")


def make_shares(
    keys: KeySet, officers: Sequence[tuple[str, RecipientPublicKey]], threshold: int, *, made_ms: int
) -> list[Share]:
    """One share of *keys* for each of *officers*, any *threshold* of which restore them.

    Raises:
        ConfigError: As `check_officers`.
    """
    check_officers(officers, threshold)
    set_id, nonce, key = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(KEY_BYTES)
    values = split(key, threshold, len(officers))
    commitments = tuple(_commitment(set_id, number, value) for number, value in values.items())
    plaintext = encode_key_set(keys)
    encrypted = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, set_id, nonce, key)
    wipe(plaintext)
    wipe(key)
    signing_key = SigningKey(keys.identity_seed)
    shares = []
    try:
        for (number, value), (officer, recipient) in zip(values.items(), officers, strict=True):
            statement = _Statement(
                domain=STATEMENT_DOMAIN,
                identity_key=keys.identity_key,
                set_id=set_id,
                made_ms=made_ms,
                threshold=threshold,
                number=number,
                officer=officer,
                commitments=commitments,
                nonce=nonce,
                encrypted_keys=encrypted,
            )
            signed = encode(statement)
            signature = signing_key.sign(signed).signature
            wrapped = HPKE.encrypt(value, recipient.hpke_key(), _info(signed))
            shares.append(Share(statement, signed, signature, recipient.key_id, wrapped))
    finally:  # also when one officer's key is none
        for value in values.values():
            wipe(value)
    return shares


def backup_facts(officers: Sequence[tuple[str, RecipientPublicKey]], threshold: int) -> dict[str, str | int]:
    """What the log says of a backup: for how many, and a digest over the names and keys for whom."""
    digest = hashlib.sha256()
    for name, key in officers:
        digest.update(name.encode("utf-8") + b"\0" + key.key_id)
    names = ", ".join(name for name, _ in officers)
    shown = names if len(names) <= NAMES_SHOWN_MAX else f"{names[:NAMES_SHOWN_MAX]}..."
    return {
        "threshold": threshold,
        "count": len(officers),
        "officers": shown,
        "officers_sha256": digest.hexdigest(),
    }


def write_share(share: Share) -> bytes:
    """The file of a share."""
    file = encode(_File(FILE_DOMAIN, share.statement_bytes, share.signature, share.key_id, share.wrapped))
    text = base64.b64encode(file).decode("ascii")
    threshold, whose = share.statement.threshold, share.coordinator_id.hex()
    title = f"{share.title[0].upper()}{share.title[1:]}; any {threshold} of them restore the coordinator {whose}"
    lines = [text[at : at + LINE_CHARACTERS] for at in range(0, len(text), LINE_CHARACTERS)]
    block = ["-----BEGIN TCCP KEY SHARE-----", *lines, "-----END TCCP KEY SHARE-----", ""]
    return "\n".join([title, *block]).encode("utf-8")


def parse_share(content: bytes) -> Share:
    """The share in a file, with its signature verified.

    Raises:
        ConfigError: ``share_malformed``, ``share_altered``.
    """
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError("share_malformed", f"more than {FILE_BYTES_MAX} bytes")
    found = BLOCK.search(content)
    if found is None:
        raise ConfigError("share_malformed", "no TCCP KEY SHARE in it")
    try:
        file: _File = decode(base64.b64decode(b"".join(found[1].split()), validate=True), _File)
        statement: _Statement = decode(file.statement, _Statement)
    except (binascii.Error, ProtocolError) as problem:
        raise ConfigError("share_malformed", str(problem)) from None
    if (file.domain, statement.domain) != (FILE_DOMAIN, STATEMENT_DOMAIN):
        raise ConfigError("share_malformed", f"a {statement.domain!r}")
    try:
        VerifyKey(statement.identity_key).verify(file.statement, file.signature)
    except BadSignatureError:
        raise ConfigError("share_altered", "its signature is not by the coordinator that it names") from None
    if not max(statement.threshold, statement.number) <= len(statement.commitments):
        raise ConfigError("share_malformed", "its numbers do not fit together")
    return Share(statement, file.statement, file.signature, file.key_id, file.wrapped)


def open_share(share: Share, secret: RecipientSecretKey) -> bytes:
    """The value of a share, by its officer's key; whoever asked for it wipes it.

    Raises:
        ConfigError: ``not_a_recipient``, ``share_altered``.
    """
    if share.key_id != secret.public.key_id:
        raise ConfigError("not_a_recipient", f"{share.title}, is wrapped to {share.key_id.hex()[:16]}")
    try:
        value = HPKE.decrypt(share.wrapped, secret.hpke_key, _info(share.statement_bytes))
    except (InvalidTag, ValueError):
        raise ConfigError("share_altered", f"{share.title}: what is wrapped in it was altered") from None
    statement = share.statement
    expected = statement.commitments[statement.number - 1]
    if len(value) != KEY_BYTES or _commitment(statement.set_id, statement.number, value) != expected:
        raise ConfigError("share_altered", f"{share.title}: another value is wrapped in it than was made")
    return value


def hand_over(share: Share, secret: RecipientSecretKey, recipient: RecipientPublicKey) -> Share:
    """The same share, wrapped to *recipient* instead: for instance to the key of the machine that restores.

    Raises:
        ConfigError: As `open_share`.
    """
    value = open_share(share, secret)
    try:
        wrapped = HPKE.encrypt(value, recipient.hpke_key(), _info(share.statement_bytes))
    finally:
        wipe(value)
    return Share(share.statement, share.statement_bytes, share.signature, recipient.key_id, wrapped)


def restore_keys(shares: Sequence[Share], secrets_of_officers: Sequence[RecipientSecretKey]) -> KeySet:
    """The keys, from as many shares as they need, each opened by one of the officers' secret keys.

    Raises:
        ConfigError: ``share_altered``, ``not_a_recipient`` (both name the share); ``shares_do_not_match``: they are of
            different sets; ``too_few_shares``; ``keys_damaged``.
    """
    first = shares[0].statement
    for share in shares:
        if _set_of(share.statement) != _set_of(first):
            raise ConfigError("shares_do_not_match", f"{share.title}, is of another set than {shares[0].title}")
    by_number = {share.statement.number: share for share in shares}
    if len(by_number) < first.threshold:
        detail = f"{len(by_number)} different shares, and {first.threshold} are needed"
        raise ConfigError("too_few_shares", detail)
    by_key_id = {secret.public.key_id: secret for secret in secrets_of_officers}
    values: dict[int, bytes] = {}
    try:
        for number, share in by_number.items():
            secret = by_key_id.get(share.key_id)
            if secret is None:
                detail = f"no secret key for {share.title}, which is wrapped to {share.key_id.hex()[:16]}"
                raise ConfigError("not_a_recipient", detail)
            values[number] = open_share(share, secret)
        key = combine(values)
    finally:
        for value in values.values():
            wipe(value)
    try:
        plaintext = crypto_aead_xchacha20poly1305_ietf_decrypt(first.encrypted_keys, first.set_id, first.nonce, key)
    except (CryptoError, ValueError, TypeError):
        raise ConfigError("keys_damaged", "the shares are right, and what they encrypt is not") from None
    finally:
        wipe(key)
    return take_key_set(plaintext, first.identity_key)


def _set_of(statement: _Statement) -> tuple[object, ...]:
    """What all shares of a set have in common."""
    same = (statement.identity_key, statement.set_id, statement.made_ms, statement.threshold, statement.commitments)
    return (*same, statement.nonce, statement.encrypted_keys)


def _commitment(set_id: bytes, number: int, value: bytes) -> bytes:
    return hashlib.sha256(b"tccp/v1/key-share-commitment\0" + set_id + bytes([number]) + value).digest()


def _info(statement: bytes) -> bytes:
    return FILE_DOMAIN.encode("ascii") + b"\0" + hashlib.sha256(statement).digest()
