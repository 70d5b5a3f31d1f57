"""The update authority: whose word lets the coordinator's keys be unsealed in a new state of its machine.

A P-256 key, since a TPM verifies no Ed25519. The public half is chosen when the keys are made and is part of the
policy in the TPM; the secret half belongs on another machine, best one without a network. Files are PEM as OpenSSL
writes them, so that the key may also come from there or from a smart card.
"""

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from tccp.errors import ConfigError

AUTHORITY_FILE_BYTES_MAX = 4096
_HINT = "`tccp coordinator keys authority FILE` makes such a key and its public half."


def make_authority() -> ec.EllipticCurvePrivateKey:
    """A new authority."""
    return ec.generate_private_key(ec.SECP256R1())


def secret_pem(authority: ec.EllipticCurvePrivateKey) -> bytes:
    """The secret file: PKCS#8, unencrypted."""
    return authority.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(authority: ec.EllipticCurvePublicKey) -> bytes:
    """The public file: SubjectPublicKeyInfo."""
    return authority.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def authority_spki(authority: ec.EllipticCurvePublicKey) -> bytes:
    """The public half as DER SubjectPublicKeyInfo."""
    return authority.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def authority_id(authority: ec.EllipticCurvePublicKey) -> bytes:
    """By what an approval names its authority: SHA-256 of the SubjectPublicKeyInfo."""
    return hashlib.sha256(authority_spki(authority)).digest()


def read_authority_secret(content: bytes) -> ec.EllipticCurvePrivateKey:
    """From the content of a secret file.

    Raises:
        ConfigError: ``key_malformed``: it holds no P-256 key, or one behind a passphrase.
    """
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise ConfigError("key_malformed", f"no secret key of an authority: {problem}", hint=_HINT) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("key_malformed", "an authority's key is of the curve P-256", hint=_HINT)
    return key


def read_authority_public(content: bytes) -> ec.EllipticCurvePublicKey:
    """From the content of a public file, PEM or DER; raises ConfigError as `read_authority_secret` does."""
    load = load_pem_public_key if b"-----BEGIN" in content else load_der_public_key
    try:
        key = load(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise ConfigError("key_malformed", f"no public key of an authority: {problem}", hint=_HINT) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("key_malformed", "an authority's key is of the curve P-256", hint=_HINT)
    return key
