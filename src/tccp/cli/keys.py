"""Public keys in the forms in which tpm2-tools and OpenSSL leave them."""

import re

from tccp.errors import EvidenceError

PUBLIC_KEY_BYTES_MAX = 4096
PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")
DER_SEQUENCE = b"\x30"


def public_key_bytes(content: bytes) -> bytes:
    """*content* (PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC) as DER SubjectPublicKeyInfo or as TPMT_PUBLIC.

    Only the wrapping is taken off; the key itself is for the C core to judge.

    Raises:
        EvidenceError: It is none of these.
    """
    if b"-----BEGIN" in content:
        return _from_pem(content)
    if len(content) < 4:
        raise EvidenceError("malformed", f"{len(content)} bytes are not a public key")
    if int.from_bytes(content[:2], "big") == len(content) - 2:
        return content[2:]
    return content


def is_spki(key: bytes) -> bool:
    """Whether *key*, from `public_key_bytes`, is DER; a TPMT_PUBLIC begins with a zero byte (TPMI_ALG_PUBLIC)."""
    return key[:1] == DER_SEQUENCE


def _from_pem(content: bytes) -> bytes:
    import base64
    import binascii

    found = PEM.search(content)
    if found is None:
        raise EvidenceError(
            "malformed",
            "the PEM file holds no public key",
            hint="It must begin with -----BEGIN PUBLIC KEY----- (openssl pkey -pubout).",
        )
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise EvidenceError("malformed", f"the PEM file is not base64: {error}") from error
