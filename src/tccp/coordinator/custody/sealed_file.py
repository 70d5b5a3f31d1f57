"""The file that holds the coordinator's keys: encrypted under a wrapping key that the TPM keeps.

    ["tccp/v1/sealed-keys", header, nonce, ciphertext]
    header = [identity_key, authority, storage_name, public, private]

The TPM holds 32 bytes under a policy (`tccp.tpm.policy`), the file holds the rest under them: XChaCha20-Poly1305 with
the domain and the header as associated data. So the file is replaced as a whole, and its parts cannot be exchanged.
"""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Meta
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from tccp.coordinator.custody.authority import authority_spki, read_authority_public
from tccp.coordinator.custody.key_set import KeySet, encode_key_set, take_key_set
from tccp.core.memory import wipe
from tccp.errors import ConfigError, ProtocolError
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.statements import coordinator_id
from tccp.tpm import SealedBlob

DOMAIN = "tccp/v1/sealed-keys"
FILE_BYTES_MAX = 32_768
WRAPPING_KEY_BYTES = 32
NONCE_BYTES = 24


class _Header(Message, frozen=True):
    identity_key: f.Ed25519Key
    authority: f.SmallSpki
    storage_name: Annotated[bytes, Meta(min_length=34, max_length=34)]
    public: Annotated[bytes, Meta(min_length=1, max_length=1024)]
    private: Annotated[bytes, Meta(min_length=1, max_length=1024)]


class _File(Message, frozen=True):
    domain: str
    header: Annotated[bytes, Meta(min_length=1, max_length=8192)]
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    ciphertext: Annotated[bytes, Meta(min_length=16, max_length=FILE_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class SealedKeys:
    """A sealed file, read; nothing in it is believed before it was opened."""

    identity_key: bytes
    authority: ec.EllipticCurvePublicKey
    blob: SealedBlob
    header: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)

    @property
    def coordinator_id(self) -> bytes:
        """Whose keys they claim to be."""
        return coordinator_id(self.identity_key)


def fresh_wrapping_key() -> bytes:
    """32 random bytes; whoever asked for them wipes them."""
    return secrets.token_bytes(WRAPPING_KEY_BYTES)


def write_sealed_keys(
    keys: KeySet, authority: ec.EllipticCurvePublicKey, blob: SealedBlob, wrapping_key: bytes
) -> bytes:
    """The file of *keys*, whose *wrapping_key* is sealed in *blob*."""
    header = encode(_Header(keys.identity_key, authority_spki(authority), blob.storage_name, blob.public, blob.private))
    nonce = secrets.token_bytes(NONCE_BYTES)
    plaintext = encode_key_set(keys)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, _associated(header), nonce, wrapping_key)
    wipe(plaintext)
    return encode(_File(DOMAIN, header, nonce, sealed))


def parse_sealed_keys(content: bytes) -> SealedKeys:
    """Read a sealed file.

    Raises:
        ConfigError: ``keys_damaged``.
    """
    if len(content) > FILE_BYTES_MAX:
        raise _damaged(f"more than {FILE_BYTES_MAX} bytes")
    try:
        file: _File = decode(content, _File)
        header: _Header = decode(file.header, _Header)
    except ProtocolError as problem:
        raise _damaged(problem.detail) from None
    if file.domain != DOMAIN:
        raise _damaged(f"a file of the kind {file.domain!r}")
    try:
        authority = read_authority_public(header.authority)
    except ConfigError as problem:
        raise _damaged(problem.detail) from None
    blob = SealedBlob(header.storage_name, header.public, header.private)
    return SealedKeys(header.identity_key, authority, blob, file.header, file.nonce, file.ciphertext)


def open_sealed_keys(sealed: SealedKeys, wrapping_key: bytes) -> KeySet:
    """The keys, by the key that the TPM gave back.

    Raises:
        ConfigError: ``keys_damaged``.
    """
    try:
        plaintext = crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed.ciphertext, _associated(sealed.header), sealed.nonce, wrapping_key
        )
    except (CryptoError, ValueError, TypeError):
        raise _damaged("it does not decrypt under the key that its TPM holds") from None
    return take_key_set(plaintext, sealed.identity_key)


def read_sealed_file(path: Path) -> SealedKeys:
    """The sealed file at *path*.

    Raises:
        ConfigError: ``not_initialised``, ``keys_unreadable`` or ``keys_damaged``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        hint = "make the keys once: `tccp coordinator init --config FILE`"
        raise ConfigError("not_initialised", f"{path} does not exist", hint=hint) from None
    except OSError as problem:
        raise ConfigError("keys_unreadable", f"{path}: {problem.strerror}") from None
    try:
        return parse_sealed_keys(content)
    except ConfigError as problem:
        raise ConfigError(problem.reason, f"{path}: {problem.detail}", hint=problem.hint) from None


def _associated(header: bytes) -> bytes:
    return DOMAIN.encode("ascii") + b"\0" + header


def _damaged(detail: str) -> ConfigError:
    hint = "put the file back from a copy, or restore from the officers' shares: `tccp coordinator keys restore`"
    return ConfigError("keys_damaged", detail, hint=hint)
