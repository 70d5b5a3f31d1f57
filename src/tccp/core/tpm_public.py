"""Public areas of TPM keys; see ``tccp_tpm_public_parse`` in csrc/tccp_tpm_public.h."""

from dataclasses import dataclass, field

from tccp.core._lib import check, ffi, lib
from tccp.errors import EnrolmentError

__all__ = ["TpmPublic", "tpm_public_check_ak", "tpm_public_check_ek", "tpm_public_parse"]


@dataclass(frozen=True, slots=True)
class TpmPublic:
    """A well-formed TPMT_PUBLIC, and what follows from it. Nothing about it has been proved."""

    area: bytes
    """The TPMT_PUBLIC itself, out of its TPM2B_PUBLIC."""
    name: bytes
    """nameAlg || H(area): how a TPM calls the key."""
    spki: bytes
    """DER SubjectPublicKeyInfo; equal keys give equal bytes."""
    attributes: int
    """TPMA_OBJECT."""
    algorithm: str
    """``"rsa2048"``, ``"rsa3072"``, ``"rsa4096"``, ``"p256"`` or ``"p384"``."""
    ak_status: int = field(repr=False)
    ek_status: int = field(repr=False)


def tpm_public_parse(public: bytes) -> TpmPublic:
    """Parse a TPMT_PUBLIC, or the TPM2B_PUBLIC around it.

    Raises:
        EnrolmentError: ``malformed``, ``too_large`` or ``unsupported``.
    """
    parsed = ffi.new("tccp_tpm_public *")
    check(lib.tccp_tpm_public_parse(public, len(public), parsed), EnrolmentError, "the public area of a TPM key")
    family = "p" if parsed.curve else "rsa"
    return TpmPublic(
        area=public[parsed.area_offset :],
        name=bytes(parsed.name[0 : parsed.name_len]),
        spki=bytes(parsed.spki[0 : parsed.spki_len]),
        attributes=parsed.attributes,
        algorithm=f"{family}{parsed.key_bits}",
        ak_status=lib.tccp_tpm_public_check_ak(parsed),
        ek_status=lib.tccp_tpm_public_check_ek(parsed),
    )


def tpm_public_check_ak(public: TpmPublic) -> None:
    """Refuse a key that is not a restricted signing key made inside its TPM.

    Raises:
        EnrolmentError: ``key_attributes``.
    """
    detail = f"not an attestation key: attributes 0x{public.attributes:08x}"
    check(public.ak_status, EnrolmentError, detail)


def tpm_public_check_ek(public: TpmPublic) -> None:
    """Refuse a key that is not a restricted decryption key made inside its TPM.

    Raises:
        EnrolmentError: ``key_attributes``.
    """
    detail = f"not an endorsement key: attributes 0x{public.attributes:08x}"
    check(public.ek_status, EnrolmentError, detail)
