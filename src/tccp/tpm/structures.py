"""What a TPM hands out: keys, quotes, clocks, as values; and the few of its structures that we must look into."""

from dataclasses import dataclass

from tccp.core.tpm_public import TpmPublic, tpm_public_parse
from tccp.errors import EnrolmentError, TpmError
from tccp.model import PcrBank, PcrSelection
from tccp.tpm.constants import TPM_GENERATED, Tag
from tccp.tpm.marshal import Reader, malformed, u8, u16, u32

_SELECT_BYTES = 3


@dataclass(frozen=True, slots=True)
class Ek:
    """The endorsement key: certified by the TPM's maker, only decrypts.

    Attributes:
        handle: Where it is now: a transient object, or a persistent one that was found in place.
        public: TPMT_PUBLIC.
        certificate: DER, without the padding of the NV index; None when the maker left none.
        chain: Certificates of authorities between it and the maker's root that the TPM holds, DER, in no certain order.
    """

    handle: int
    public: bytes
    certificate: bytes | None
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ak:
    """An attestation key: restricted, so it signs only what the TPM itself made. Transient.

    Attributes:
        public: TPMT_PUBLIC.
        name: nameAlg (2 bytes) and the digest of `public`.
    """

    handle: int
    public: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class Quote:
    """A signed statement on PCR values: TPMS_ATTEST and TPMT_SIGNATURE, exactly the TPM's bytes."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Clock:
    """TPMS_TIME_INFO: how long the TPM has run, and how often it was reset or suspended (Part 2, 10.11)."""

    time_ms: int
    clock_ms: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class TpmProperties:
    """Who made the TPM, as it says itself: ``"IBM"``, ``"SW TPM"``, ``"8217.4131.22.13878"``. No evidence."""

    manufacturer: str
    vendor: str
    firmware: str


def public_area(public: bytes) -> TpmPublic:
    """What the C core reads in the TPMT_PUBLIC of an RSA or ECC key: its name, its attributes, its key.

    Raises:
        TpmError: ``tpm_key_unusable``: it is no public area, or of a kind that tccp does not use.
    """
    try:
        return tpm_public_parse(public)
    except EnrolmentError as error:
        raise TpmError("tpm_key_unusable", f"the TPM's answer is no key that tccp can use: {error}") from error


def put_selection(selection: PcrSelection) -> bytes:
    """*selection* as TPML_PCR_SELECTION (Part 2, 10.9.7)."""
    mask = selection.mask.to_bytes(_SELECT_BYTES, "little")
    return u32(1) + u16(selection.bank) + u8(_SELECT_BYTES) + mask


def take_selections(reader: Reader) -> list[tuple[int, int]]:
    """A TPML_PCR_SELECTION as pairs of bank and mask, in the TPM's order, banks unknown to us included."""
    selections = []
    for _ in range(reader.count(3)):
        bank = reader.uint(2)
        selections.append((bank, int.from_bytes(reader.take(reader.uint(1)), "little")))
    return selections


def check_selection(selections: list[tuple[int, int]], wanted: PcrSelection) -> None:
    """Refuse an answer about other PCRs than those *wanted*.

    Raises:
        TpmError: ``pcr_bank_inactive`` when the TPM left the bank out, else ``tpm_malformed_response``.
    """
    found = [(bank, mask) for bank, mask in selections if mask]
    if found == [(wanted.bank, wanted.mask)]:
        return
    if not found:
        raise bank_inactive(wanted.bank)
    raise malformed(f"an answer about other PCRs than {wanted}")


def bank_inactive(bank: PcrBank) -> TpmError:
    """The error for a PCR bank that the TPM does not keep."""
    return TpmError(
        "pcr_bank_inactive",
        f"the TPM keeps no {bank.hash_name} PCRs",
        hint="Allocate the bank in the firmware set-up, or with tpm2_pcrallocate and a reboot; or use another bank.",
    )


@dataclass(frozen=True, slots=True)
class QuotedPcrs:
    """What a quote says on PCRs: the selection as pairs of bank and mask, and the digest over the values."""

    selections: list[tuple[int, int]]
    digest: bytes


def parse_attest(attest: bytes) -> QuotedPcrs:
    """Read the PCR part of our own TPM's quote (TPMS_ATTEST, Part 2, 10.12.8); verify nothing.

    Raises:
        TpmError: It is no quote.
    """
    reader = Reader(attest)
    if reader.uint(4) != TPM_GENERATED or reader.uint(2) != Tag.ATTEST_QUOTE:
        raise malformed("an attestation that is not a quote")
    reader.tpm2b()  # qualifiedSigner
    reader.tpm2b()  # extraData
    reader.take(17 + 8)  # clockInfo, firmwareVersion
    quoted = QuotedPcrs(take_selections(reader), reader.tpm2b())
    reader.finish()
    return quoted
