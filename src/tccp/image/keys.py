"""The keys of people and nodes around sealed images, and the files that they live in.

A *recipient* can open images that were sealed to it: X-Wing, the hybrid of ML-KEM-768 and X25519. A *tenant* signs
images, an *operator* policies: Ed25519. A key file is one PEM block whose label says which of the kinds it holds, so
that no key can be taken for another::

    -----BEGIN TCCP RECIPIENT SECRET KEY-----
    the 32-byte seed of X-Wing, or the 32-byte seed of Ed25519, in base64
    -----END TCCP RECIPIENT SECRET KEY-----

Sources: draft-connolly-cfrg-xwing-kem (the seed and its expansion), RFC 8032.
"""

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import ConfigError

SEED_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
X25519_BYTES = 32
RECIPIENT_PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + X25519_BYTES
TENANT_PUBLIC_BYTES = 32
KEY_FILE_BYTES_MAX = 8192
KEY_ID_DOMAIN = b"tccp recipient id v1\0"

RECIPIENT_SECRET = "RECIPIENT SECRET KEY"  # noqa: S105 - a label
RECIPIENT_PUBLIC = "RECIPIENT PUBLIC KEY"
TENANT_SECRET = "TENANT SECRET KEY"  # noqa: S105 - a label
TENANT_PUBLIC = "TENANT PUBLIC KEY"
OPERATOR_SECRET = "OPERATOR SECRET KEY"  # noqa: S105 - a label
OPERATOR_PUBLIC = "OPERATOR PUBLIC KEY"
BLOCK = re.compile(rb"\s*-----BEGIN TCCP ([A-Z ]+)-----\s([A-Za-z0-9+/=\s]+)-----END TCCP ([A-Z ]+)-----\s*")
LINE_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class RecipientPublicKey:
    """To whom images are sealed: the public key of X-Wing, ML-KEM-768 first, as nodes name theirs in their identity."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse bytes of another length."""
        if len(self.raw) != RECIPIENT_PUBLIC_BYTES:
            raise ValueError(f"a recipient's public key has {RECIPIENT_PUBLIC_BYTES} bytes, not {len(self.raw)}")

    @property
    def key_id(self) -> bytes:
        """32 bytes by which a sealed image names this recipient."""
        return hashlib.sha256(KEY_ID_DOMAIN + self.raw).digest()

    def hpke_key(self) -> MLKEM768X25519PublicKey:
        """The key in the form that encrypts.

        Raises:
            ConfigError: ML-KEM allows no such key.
        """
        try:
            return MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(self.raw[:MLKEM_PUBLIC_BYTES]),
                x25519.X25519PublicKey.from_public_bytes(self.raw[MLKEM_PUBLIC_BYTES:]),
            )
        except ValueError as error:
            raise ConfigError("key_malformed", f"no X-Wing public key: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class RecipientSecretKey:
    """Opens images; made once and kept by whoever may open them."""

    hpke_key: MLKEM768X25519PrivateKey = field(repr=False)
    public: RecipientPublicKey

    @classmethod
    def from_seed(cls, seed: bytes) -> "RecipientSecretKey":
        """The key that X-Wing expands *seed* (32 bytes) to."""
        expanded = hashlib.shake_256(seed).digest(96)
        return cls.of(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
        )

    @classmethod
    def of(cls, kem: mlkem.MLKEM768PrivateKey, ecdh: x25519.X25519PrivateKey) -> "RecipientSecretKey":
        """The key that these two make, such as those of a node's boot."""
        raw = kem.public_key().public_bytes_raw() + ecdh.public_key().public_bytes_raw()
        return cls(MLKEM768X25519PrivateKey(kem, ecdh), RecipientPublicKey(raw))


def write_recipient_keys() -> tuple[bytes, bytes]:
    """Fresh keys of a recipient: the secret and the public file."""
    seed = os.urandom(SEED_BYTES)
    return _block(RECIPIENT_SECRET, seed), _block(RECIPIENT_PUBLIC, RecipientSecretKey.from_seed(seed).public.raw)


def write_tenant_keys() -> tuple[bytes, bytes]:
    """Fresh keys of a tenant: the secret and the public file."""
    key = SigningKey.generate()
    return _block(TENANT_SECRET, bytes(key)), _block(TENANT_PUBLIC, bytes(key.verify_key))


def write_operator_keys() -> tuple[bytes, bytes]:
    """Fresh keys of an operator, who signs policies: the secret and the public file."""
    key = SigningKey.generate()
    return _block(OPERATOR_SECRET, bytes(key)), _block(OPERATOR_PUBLIC, bytes(key.verify_key))


def read_recipient_secret(content: bytes) -> RecipientSecretKey:
    """From the content of a key file.

    Raises:
        ConfigError: It holds another kind of key, or none.
    """
    return RecipientSecretKey.from_seed(_bytes_of(content, RECIPIENT_SECRET, SEED_BYTES))


def read_recipient_public(content: bytes) -> RecipientPublicKey:
    """From the content of a key file; raises ConfigError as `read_recipient_secret` does."""
    return RecipientPublicKey(_bytes_of(content, RECIPIENT_PUBLIC, RECIPIENT_PUBLIC_BYTES))


def read_tenant_secret(content: bytes) -> SigningKey:
    """From the content of a key file; raises ConfigError as `read_recipient_secret` does."""
    return SigningKey(_bytes_of(content, TENANT_SECRET, SEED_BYTES))


def read_tenant_public(content: bytes) -> VerifyKey:
    """From the content of a key file; raises ConfigError as `read_recipient_secret` does."""
    return VerifyKey(_bytes_of(content, TENANT_PUBLIC, TENANT_PUBLIC_BYTES))


def read_operator_secret(content: bytes) -> SigningKey:
    """From the content of a key file; raises ConfigError as `read_recipient_secret` does."""
    return SigningKey(_bytes_of(content, OPERATOR_SECRET, SEED_BYTES))


def read_operator_public(content: bytes) -> VerifyKey:
    """From the content of a key file; raises ConfigError as `read_recipient_secret` does."""
    return VerifyKey(_bytes_of(content, OPERATOR_PUBLIC, TENANT_PUBLIC_BYTES))


def _block(label: str, key: bytes) -> bytes:
    text = base64.b64encode(key).decode("ascii")
    lines = [text[at : at + LINE_CHARACTERS] for at in range(0, len(text), LINE_CHARACTERS)]
    return "\n".join([f"-----BEGIN TCCP {label}-----", *lines, f"-----END TCCP {label}-----", ""]).encode("ascii")


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeio" else f"a {what}"


def _bytes_of(content: bytes, label: str, size: int) -> bytes:
    found = BLOCK.fullmatch(content)
    if found is None or found[1] != found[3]:
        raise ConfigError(
            "key_malformed", f"no TCCP {label.lower()}", hint="`tccp key generate` makes keys of each type."
        )
    if found[1] != label.encode("ascii"):
        raise ConfigError(
            "key_of_another_kind", f"a TCCP {found[1].decode('ascii').lower()} instead of {_a(label.lower())}"
        )
    try:
        key = base64.b64decode(b"".join(found[2].split()), validate=True)
    except binascii.Error as error:
        raise ConfigError("key_malformed", f"no base64: {error}") from error
    if len(key) != size:
        raise ConfigError("key_malformed", f"a TCCP {label.lower()} has {size} bytes, not {len(key)}")
    return key
