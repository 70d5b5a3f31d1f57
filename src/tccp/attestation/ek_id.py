"""The name of an endorsement key in the perimeter record: SHA-256 of its DER SubjectPublicKeyInfo."""

from tccp.core.tpm_public import tpm_public_parse
from tccp.model import spki_sha256

SPKI_TAG = 0x30  # a DER SEQUENCE; a TPMT_PUBLIC begins with 0x00 (its algorithm), a TPM2B_PUBLIC with its size


def ek_spki_of(public: bytes) -> bytes:
    """The SPKI of an EK that is given as SPKI, TPMT_PUBLIC or TPM2B_PUBLIC.

    Raises:
        EnrolmentError: None of these.
    """
    return public if public[:1] == bytes([SPKI_TAG]) else tpm_public_parse(public).spki


def ek_id_of(public: bytes) -> bytes:
    """The id, 32 bytes, of an EK that is given as in `ek_spki_of`; says nothing about who holds the key."""
    return spki_sha256(ek_spki_of(public))
