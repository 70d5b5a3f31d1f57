"""Quotes and the keys that sign them; see ``tccp_quote_verify`` and ``tccp_ak_from_spki`` in csrc/tccp_quote.h."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tccp.core._lib import check, ffi, lib, status_name
from tccp.errors import EnrolmentError, QuoteError

__all__ = [
    "Ak",
    "Claim",
    "Contents",
    "Verified",
    "ak_from_spki",
    "ak_from_tpm_public",
    "lanes_available",
    "quote_inspect",
    "quote_verify",
    "quote_verify_batch",
]

NONCE_BYTES_MIN: int = lib.TCCP_NONCE_BYTES_MIN
NONCE_BYTES_MAX: int = lib.TCCP_NONCE_BYTES_MAX
RSA_BYTES_MAX: int = lib.TCCP_RSA_BYTES_MAX

TPM_ALG_RSA = 0x0001


@dataclass(frozen=True, slots=True)
class Ak:
    """A handle of the C core, freed with this object. Any number of threads may verify with it at once."""

    handle: ffi.CData = field(repr=False, compare=False)
    spki: bytes
    name: bytes
    kind: str


class Claim(NamedTuple):
    """What ``tccp_quote_claim`` holds, and the key."""

    ak: Ak
    attest: bytes
    signature: bytes
    nonce: bytes
    bank: int
    pcr_mask: int
    pcrs: bytes


Verified = tuple[int, int, int, bool, int]
"""Of a verified quote: clock_ms, reset_count, restart_count, safe, firmware_version."""


class Contents(NamedTuple):
    """What a signed quote says: all of ``tccp_quote``."""

    scheme: int
    hash: int
    clock_ms: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    qualified_signer: bytes
    extra_data: bytes
    selections: tuple[tuple[int, int], ...]
    pcr_digest: bytes


def ak_from_spki(spki: bytes) -> Ak:
    """The key of a DER SubjectPublicKeyInfo.

    Raises:
        EnrolmentError: ``malformed``, ``too_large`` or ``unsupported``.
    """
    made = ffi.new("tccp_ak **")
    check(lib.tccp_ak_from_spki(spki, len(spki), made), EnrolmentError, "the public key of an AK")
    return _described(made[0])


def ak_from_tpm_public(public: bytes) -> Ak:
    """The key of a TPMT_PUBLIC or TPM2B_PUBLIC.

    Raises:
        EnrolmentError: ``malformed``, ``too_large``, ``unsupported``, or ``key_attributes``: no attestation key.
    """
    made = ffi.new("tccp_ak **")
    check(lib.tccp_ak_from_tpm_public(public, len(public), made), EnrolmentError, "the public area of an AK")
    return _described(made[0])


def _described(pointer: ffi.CData) -> Ak:
    handle = ffi.gc(pointer, lib.tccp_ak_free)
    info = ffi.new("tccp_ak_info *")
    check(lib.tccp_ak_describe(handle, info), EnrolmentError)
    family = "rsa" if info.type == TPM_ALG_RSA else "p"
    return Ak(handle, bytes(info.spki[0 : info.spki_len]), bytes(info.name[0 : info.name_len]), f"{family}{info.bits}")


def quote_verify(claim: Claim) -> Verified:
    """Verify one quote.

    Raises:
        QuoteError: The status as its reason.
    """
    ak, attest, signature, nonce, bank, pcr_mask, pcrs = claim
    quote = ffi.new("tccp_quote *")
    status = lib.tccp_quote_verify_parts(
        *(ak.handle, attest, len(attest), signature, len(signature), nonce, len(nonce)),
        *(bank, pcr_mask, pcrs, len(pcrs), quote),
    )
    if status != lib.TCCP_OK:
        check(status, QuoteError)
    return quote.clock_ms, quote.reset_count, quote.restart_count, quote.safe == 1, quote.firmware_version


def quote_verify_batch(claims: Sequence[Claim]) -> list[Verified | QuoteError]:
    """Verify many quotes, several at once; a verdict for each, in order."""
    verdicts: list[Verified | QuoteError] = []
    for start in range(0, len(claims), lib.TCCP_BATCH_MAX):
        verdicts += _quote_verify_packed(claims[start : start + lib.TCCP_BATCH_MAX])
    return verdicts


def _quote_verify_packed(claims: Sequence[Claim]) -> list[Verified | QuoteError]:
    count = len(claims)
    parts: list[bytes] = []
    numbers: list[int] = []
    for _, attest, signature, nonce, bank, pcr_mask, pcrs in claims:
        parts += (attest, signature, nonce, pcrs)
        numbers += (len(attest), len(signature), len(nonce), len(pcrs), pcr_mask, bank)
    handles = ffi.new("tccp_ak *[]", [claim.ak.handle for claim in claims])
    statuses = ffi.new("tccp_status[]", count)
    quotes = ffi.new("tccp_quote[]", count)
    packed = b"".join(parts)
    c_numbers = ffi.new("uint32_t[]", numbers)
    check(lib.tccp_quote_verify_packed(handles, packed, len(packed), c_numbers, count, statuses, quotes), QuoteError)
    return [
        (quote.clock_ms, quote.reset_count, quote.restart_count, quote.safe == 1, quote.firmware_version)
        if status == lib.TCCP_OK
        else _refusal(status)
        for status, quote in zip(ffi.unpack(statuses, count), quotes, strict=True)
    ]


def quote_inspect(ak: Ak, attest: bytes, signature: bytes) -> Contents:
    """What a quote says that this key signed, whoever asked for it.

    Raises:
        QuoteError: The status as its reason.
    """
    quote = ffi.new("tccp_quote *")
    arguments = (ak.handle, attest, len(attest), signature, len(signature), quote)
    check(lib.tccp_quote_inspect(*arguments), QuoteError)
    return _contents(quote)


def lanes_available() -> bool:
    """Whether signatures are verified in eight lanes: on a CPU with AVX-512 IFMA."""
    return bool(lib.tccp_lanes_available())


def _refusal(status: int) -> QuoteError:
    if status < lib.TCCP_ERR_MALFORMED:
        check(status, QuoteError)
    return QuoteError(status_name(status))


def _contents(quote: ffi.CData) -> Contents:
    return Contents(
        scheme=quote.scheme,
        hash=quote.hash,
        clock_ms=quote.clock_ms,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        safe=bool(quote.safe),
        firmware_version=quote.firmware_version,
        qualified_signer=bytes(quote.qualified_signer[0 : quote.qualified_signer_len]),
        extra_data=bytes(quote.extra_data[0 : quote.extra_data_len]),
        selections=tuple((quote.selection_banks[i], quote.selection_masks[i]) for i in range(quote.selection_count)),
        pcr_digest=bytes(quote.pcr_digest[0 : quote.pcr_digest_len]),
    )
