"""EK certificates and the authorities behind them; see ``tccp_ek_certificate_verify`` in csrc/tccp_certificate.h."""

from collections.abc import Sequence
from dataclasses import dataclass

from tccp.core._lib import check, ffi, lib
from tccp.errors import EnrolmentError

__all__ = ["NEVER", "Authorities", "EkCertificateInfo", "ek_certificate_verify"]

NEVER = (1 << 63) - 1


class Authorities:
    """A set of trusted authorities and untrusted intermediates, parsed once. An empty set trusts nobody.

    It may be read by many threads at once, but not while one adds to it.
    """

    def __init__(self) -> None:
        handle = lib.tccp_authorities_new()
        if handle == ffi.NULL:
            raise MemoryError
        self._handle = ffi.gc(handle, lib.tccp_authorities_free)

    def add(self, certificates: bytes) -> int:
        """Trust the certificates of a DER or PEM file, all or none of them; return how many it held.

        Raises:
            EnrolmentError: ``malformed``, ``too_large`` or ``key_attributes`` (not an authority).
        """
        return self._add(lib.tccp_authorities_add, certificates)

    def add_intermediates(self, certificates: bytes) -> int:
        """Know the certificates of a DER or PEM file without trusting them; return how many it held.

        Raises:
            EnrolmentError: ``malformed``, ``too_large`` or ``key_attributes`` (not an authority).
        """
        return self._add(lib.tccp_authorities_add_intermediates, certificates)

    def add_revocations(self, lists: bytes) -> int:
        """Refuse what the CRLs of a DER or PEM file name; return when the first of them expects to be replaced.

        That is in seconds since 1970-01-01 UTC, `NEVER` where none says so.

        Raises:
            EnrolmentError: ``malformed``, ``too_large`` or ``unsupported`` (a delta, or of others' certificates).
        """
        next_update_s = ffi.new("int64_t *")
        status = lib.tccp_authorities_add_revocations(self._handle, lists, len(lists), next_update_s)
        check(status, EnrolmentError, "a list of revoked certificates")
        return int(next_update_s[0])

    def _add(self, function: ffi.CData, certificates: bytes) -> int:
        count = ffi.new("size_t *")
        check(function(self._handle, certificates, len(certificates), count), EnrolmentError, "a file of authorities")
        return int(count[0])

    def __len__(self) -> int:
        """How many different authorities are trusted."""
        return int(lib.tccp_authorities_count(self._handle))


@dataclass(frozen=True, slots=True)
class EkCertificateInfo:
    """What a verified EK certificate says; each field as in ``tccp_ek_certificate``."""

    spki: bytes
    manufacturer: str
    model: str
    version: str
    subject: str
    issuer: str
    serial: str
    not_before_s: int
    not_after_s: int
    sha256: bytes
    authority_sha256: bytes


def ek_certificate_verify(
    authorities: Authorities, certificate: bytes, chain: Sequence[bytes], now_s: int
) -> EkCertificateInfo:
    """Verify that one of *authorities* certified an endorsement key.

    Raises:
        EnrolmentError: ``malformed``, ``too_large``, ``untrusted``, ``expired``, ``certificate_revoked``,
            ``key_attributes``, ``unsupported``.
    """
    files = [ffi.from_buffer("uint8_t[]", file) for file in chain]
    lengths = [len(file) for file in chain]
    ek = ffi.new("tccp_ek_certificate *")
    detail = ffi.new("char[]", lib.TCCP_DETAIL_BYTES)
    status = lib.tccp_ek_certificate_verify(
        authorities._handle,
        certificate,
        len(certificate),
        ffi.new("uint8_t *[]", files),
        ffi.new("size_t[]", lengths),
        len(files),
        now_s,
        ek,
        detail,
    )
    check(status, EnrolmentError, _text(detail))
    return EkCertificateInfo(
        spki=bytes(ek.spki[0 : ek.spki_len]),
        manufacturer=_text(ek.manufacturer),
        model=_text(ek.model),
        version=_text(ek.version),
        subject=_text(ek.subject),
        issuer=_text(ek.issuer),
        serial=_text(ek.serial),
        not_before_s=ek.not_before_s,
        not_after_s=ek.not_after_s,
        sha256=bytes(ek.sha256),
        authority_sha256=bytes(ek.authority_sha256),
    )


def _text(characters: ffi.CData) -> str:
    text = ffi.string(characters)
    return str(text, "ascii", "replace")
