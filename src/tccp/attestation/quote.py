"""A TPM's signed word on its PCR values.

    claimed attest + signature + PCR values --- verify_quote ---> VerifiedQuote

A `VerifiedQuote` can be had from `verify_quote` and `verify_quotes` only, so that who holds one knows that it was
checked: the signature by that AK, over that nonce, for exactly those PCRs. It does not know whose AK that is; the
caller bound it to a TPM when the node was enrolled.

Source: TPM 2.0 Library, Part 1, 36 (attestation), Part 2, 10.12 (TPMS_ATTEST), Part 3, 18.4 (TPM2_Quote).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from tccp.core import quote as core
from tccp.errors import QuoteError
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues

# TCG Algorithm Registry, table 3.
_RSASSA, _RSAPSS, _ECDSA = 0x0014, 0x0016, 0x0018
_SCHEMES = {_RSASSA: "rsassa", _RSAPSS: "rsapss", _ECDSA: "ecdsa"}
_RESETTABLE_MASK = sum(1 << index for index in RESETTABLE_PCRS)


@dataclass(frozen=True, slots=True)
class AkKey:
    """An attestation key, parsed once to verify many quotes: keep it as long as the node is enrolled.

    Two are equal when they are the same key under the same name.
    """

    _ak: core.Ak = field(repr=False)

    @classmethod
    def from_spki(cls, spki: bytes) -> Self:
        """From a DER SubjectPublicKeyInfo; that the TPM keeps the key restricted is then the caller's knowledge.

        Raises:
            EnrolmentError: It is no RSA-2048, -3072, -4096, P-256 or P-384 key in its canonical encoding.
        """
        return cls(core.ak_from_spki(spki))

    @classmethod
    def from_tpm_public(cls, public: bytes) -> Self:
        """From a TPMT_PUBLIC or TPM2B_PUBLIC; its quotes must then be in the scheme that it names.

        Raises:
            EnrolmentError: It is not a restricted signing key made inside its TPM, or none of the kinds above.
        """
        return cls(core.ak_from_tpm_public(public))

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo: the identity of the key."""
        return self._ak.spki

    @property
    def name(self) -> bytes:
        """The TPM's name of the key, computed from its public area; empty when it came without one."""
        return self._ak.name

    @property
    def kind(self) -> str:
        """``"rsa2048"``, ``"rsa3072"``, ``"rsa4096"``, ``"p256"`` or ``"p384"``."""
        return self._ak.kind

    @property
    def core_ak(self) -> core.Ak:
        """The handle of the C core."""
        return self._ak


@dataclass(frozen=True, slots=True)
class QuoteClaim:
    """What a peer sent as a quote, beside what was asked of it."""

    attest: bytes
    signature: bytes
    pcrs: PcrValues
    ak: AkKey
    qualifying_data: bytes


@dataclass(frozen=True, slots=True, init=False)
class VerifiedQuote:
    """PCR values that the TPM with this AK had when it answered this nonce. Only `verify_quote` makes one."""

    pcrs: PcrValues
    ak: AkKey
    qualifying_data: bytes
    clock_ms: int
    """Time the TPM was powered since its owner last cleared it."""
    reset_count: int
    """Boots. It may not move while a lease lasts."""
    restart_count: int
    """Suspends since the last boot."""
    safe: bool
    """Whether no larger `clock_ms` was ever reported: false for a while after an unorderly shutdown."""
    firmware_version: int
    """The TPM's own firmware, as its maker counts."""

    def __init__(self) -> None:
        raise TypeError("only verify_quote and verify_quotes make a VerifiedQuote")

    def of(self, selection: PcrSelection) -> "VerifiedQuote":
        """The same quote as far as it is about the PCRs of *selection*: for one of several policies that share it.

        Raises:
            ValueError: Not all of them were quoted.
        """
        if selection == self.pcrs.selection:
            return self
        values = self.pcrs.values
        if selection.bank is not self.pcrs.selection.bank or not values.keys() >= set(selection.indexes):
            raise ValueError(f"{self.pcrs.selection} was quoted, which does not cover {selection}")
        pcrs = PcrValues(selection, {index: values[index] for index in selection.indexes})
        found = (self.clock_ms, self.reset_count, self.restart_count, self.safe, self.firmware_version)
        return _verified(pcrs, self.ak, self.qualifying_data, found)


def verify_quote(
    attest: bytes, signature: bytes, pcrs: PcrValues, *, ak: AkKey, qualifying_data: bytes
) -> VerifiedQuote:
    """Check that the TPM holding *ak* quoted exactly *pcrs*, in answer to *qualifying_data*.

    Args:
        attest: TPMS_ATTEST, exactly the bytes that were signed.
        signature: TPMT_SIGNATURE.
        pcrs: The claimed values. Their selection must be the one that was asked for, not one that the peer names.
        ak: The attestation key. The caller has bound it to a trusted EK; this function cannot tell.
        qualifying_data: The nonce, or the digest that binds one: 16 to 64 bytes.

    Raises:
        QuoteError: Anything does not match. No part of the input can be trusted then.
        ValueError: We asked for what proves nothing: SHA-1, PCR 16 or 23, too short a nonce.
    """
    asked = _core_claim(attest, signature, pcrs, ak, qualifying_data)
    return _verified(pcrs, ak, qualifying_data, core.quote_verify(asked))


def verify_quotes(claims: Sequence[QuoteClaim]) -> list[VerifiedQuote | QuoteError]:
    """`verify_quote` for many, faster the more there are; a verdict for each, in order.

    Raises:
        ValueError: As `verify_quote`, about any of the claims.
    """
    asked = [
        _core_claim(claim.attest, claim.signature, claim.pcrs, claim.ak, claim.qualifying_data) for claim in claims
    ]
    return [
        verdict if isinstance(verdict, QuoteError) else _verified(claim.pcrs, claim.ak, claim.qualifying_data, verdict)
        for claim, verdict in zip(claims, core.quote_verify_batch(asked), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class InspectedQuote:
    """What a signed quote says. Read `inspect_quote` for what it does not prove."""

    scheme: str
    """``"rsassa"``, ``"rsapss"`` or ``"ecdsa"``."""
    hash_name: str
    """Of the signature and of `pcr_digest`: ``"sha256"``."""
    extra_data: bytes
    """The nonce that was answered, of any length."""
    selections: tuple[tuple[int, tuple[int, ...]], ...]
    """Bank (TPM_ALG_ID) and PCR indices, as often and in the order in which the quote has them."""
    pcr_digest: bytes
    clock_ms: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    qualified_signer: bytes
    """The TPM's name of the key and of its parents."""

    def covers(self, *pcrs: PcrValues) -> bool:
        """Whether *pcrs*, one after the other, are the selections of the quote and hash to its digest."""
        selections = tuple((int(some.selection.bank), some.selection.indexes) for some in pcrs)
        digest = hashlib.new(self.hash_name, b"".join(some.concatenated for some in pcrs)).digest()
        return selections == self.selections and digest == self.pcr_digest


def inspect_quote(attest: bytes, signature: bytes, *, ak: AkKey) -> InspectedQuote:
    """Say what a quote says that *ak* has signed: for people who debug attestation, never for admitting anybody.

    The signature and the structure are checked, as in `verify_quote`. Not checked is everything that makes a quote an
    answer: it may be years old, of PCRs that anybody may reset, of the SHA-1 bank, or of no PCR at all.

    Raises:
        QuoteError: The signature or the structure does not hold.
    """
    contents = core.quote_inspect(ak.core_ak, attest, signature)
    return InspectedQuote(
        scheme=_SCHEMES[contents.scheme],
        hash_name=PcrBank(contents.hash).hash_name,
        extra_data=contents.extra_data,
        selections=tuple((bank, _indexes(mask)) for bank, mask in contents.selections),
        pcr_digest=contents.pcr_digest,
        clock_ms=contents.clock_ms,
        reset_count=contents.reset_count,
        restart_count=contents.restart_count,
        safe=contents.safe,
        firmware_version=contents.firmware_version,
        qualified_signer=contents.qualified_signer,
    )


def wrap_signature(bare: bytes, *, ak: AkKey, hash_name: str = "sha256", pss: bool = False) -> bytes:
    """The TPMT_SIGNATURE around a bare signature, as ``tpm2_quote -f plain`` and some clouds give it.

    Args:
        bare: RSA: as long as the modulus. ECDSA: a DER Ecdsa-Sig-Value (RFC 3279, 2.2.3).
        ak: Says which of the two it is.
        hash_name: Of the signature; a bare one does not say.
        pss: Whether an RSA signature is RSAPSS; a bare one does not say.

    Raises:
        QuoteError: ``malformed``: *bare* is no such DER; ``too_large``: no RSA key of ours makes so long a signature.
        ValueError: There is no hash of that name.
    """
    hash_id = int(PcrBank.from_name(hash_name)).to_bytes(2, "big")
    if ak.kind.startswith("rsa"):
        if len(bare) > core.RSA_BYTES_MAX:
            raise QuoteError("too_large", f"an RSA signature of {len(bare)} bytes")
        scheme = _RSAPSS if pss else _RSASSA
        return scheme.to_bytes(2, "big") + hash_id + _tpm2b(bare)
    r, s = _der_integers(bare)
    return _ECDSA.to_bytes(2, "big") + hash_id + _tpm2b(r) + _tpm2b(s)


def _der_integers(der: bytes) -> list[bytes]:
    """The two numbers of an Ecdsa-Sig-Value: a SEQUENCE of two INTEGERs, all lengths below 128."""
    numbers: list[bytes] = []
    rest = der[2:]
    while len(rest) > 2 and rest[0] == 0x02 and 0 < rest[1] <= len(rest) - 2:
        numbers.append(rest[2 : 2 + rest[1]].lstrip(b"\0"))
        rest = rest[2 + rest[1] :]
    if len(numbers) != 2 or rest or len(der) >= 0x82 or der[:2] != bytes((0x30, len(der) - 2)):
        raise QuoteError("malformed", "no DER ECDSA signature")
    return numbers


def _tpm2b(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _indexes(mask: int) -> tuple[int, ...]:
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)


def _core_claim(attest: bytes, signature: bytes, pcrs: PcrValues, ak: AkKey, qualifying_data: bytes) -> core.Claim:
    selection = pcrs.selection
    mask = selection.mask
    if selection.bank is PcrBank.SHA1:
        raise ValueError("PCRs of the sha1 bank prove nothing")
    if mask & _RESETTABLE_MASK:
        raise ValueError("PCR 16 and 23 prove nothing: any software may reset them")
    if not core.NONCE_BYTES_MIN <= len(qualifying_data) <= core.NONCE_BYTES_MAX:
        raise ValueError(f"a nonce has 16 to 64 bytes, not {len(qualifying_data)}")
    return core.Claim(ak.core_ak, attest, signature, qualifying_data, selection.bank, mask, pcrs.concatenated)


def _verified(pcrs: PcrValues, ak: AkKey, qualifying_data: bytes, found: core.Verified) -> VerifiedQuote:
    verified = object.__new__(VerifiedQuote)
    put = object.__setattr__
    put(verified, "pcrs", pcrs)
    put(verified, "ak", ak)
    put(verified, "qualifying_data", qualifying_data)
    clock_ms, reset_count, restart_count, safe, firmware_version = found
    put(verified, "clock_ms", clock_ms)
    put(verified, "reset_count", reset_count)
    put(verified, "restart_count", restart_count)
    put(verified, "safe", safe)
    put(verified, "firmware_version", firmware_version)
    return verified
