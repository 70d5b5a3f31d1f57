"""Quotes that other projects recorded from real TPMs, each with its verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from tccp.attestation.quote import AkKey, inspect_quote, verify_quote, wrap_signature
from tccp.errors import EnrolmentError, QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues

VECTORS = Path(__file__).parents[1] / "vectors" / "quote"
TABLE: list[dict[str, Any]] = json.loads((VECTORS / "vectors.json").read_text())
OF_VERDICT = {
    verdict: [pytest.param(entry, id=entry["name"]) for entry in TABLE if entry["verdict"] == verdict]
    for verdict in ("accepted", "shown", "bad_signature")
}


class Vector:
    def __init__(self, entry: dict[str, Any]) -> None:
        folder = VECTORS / entry["name"]
        key = (folder / f"ak.{entry['ak']}").read_bytes()
        self.ak = AkKey.from_spki(key) if entry["ak"] == "spki" else AkKey.from_tpm_public(key)
        self.attest = (folder / "attest.bin").read_bytes()
        found = (folder / "signature.bin").read_bytes()
        self.signature = found if entry["signature_form"] == "tpmt" else wrap_signature(found, ak=self.ak)
        self.nonce = bytes.fromhex(entry["nonce"])
        self.selection = PcrSelection.of(PcrBank.from_name(entry["bank"]), _indexes(entry["pcr_indexes"]))
        size = self.selection.bank.digest_bytes
        claimed = (folder / "pcrs.bin").read_bytes() if (folder / "pcrs.bin").exists() else b""
        values = {index: claimed[i * size : (i + 1) * size] for i, index in enumerate(self.selection.indexes)}
        self.pcrs = PcrValues(self.selection, values) if claimed else None


def _indexes(text: str) -> list[int]:
    bounds = [[int(number) for number in part.split("-")] for part in text.split(",")]
    return [index for bound in bounds for index in range(bound[0], bound[-1] + 1)]


@pytest.mark.parametrize("entry", OF_VERDICT["accepted"])
def test_a_recorded_quote_is_accepted(entry: dict[str, Any]) -> None:
    vector = Vector(entry)
    assert vector.pcrs

    quote = verify_quote(vector.attest, vector.signature, vector.pcrs, ak=vector.ak, qualifying_data=vector.nonce)

    assert quote.pcrs == vector.pcrs
    assert quote.ak == vector.ak
    assert (quote.clock_ms, quote.reset_count, quote.restart_count, quote.safe) == (202110420, 339, 0, True)


@pytest.mark.parametrize("entry", OF_VERDICT["shown"])
def test_a_recorded_quote_of_resettable_pcrs_is_shown_and_not_accepted(entry: dict[str, Any]) -> None:
    vector = Vector(entry)
    assert vector.pcrs

    shown = inspect_quote(vector.attest, vector.signature, ak=vector.ak)

    assert shown.extra_data == vector.nonce
    assert shown.covers(vector.pcrs)
    with pytest.raises(ValueError, match="prove nothing"):
        verify_quote(vector.attest, vector.signature, vector.pcrs, ak=vector.ak, qualifying_data=bytes(32))


@pytest.mark.parametrize("entry", OF_VERDICT["bad_signature"])
def test_a_recorded_quote_beside_the_key_of_another_machine_is_refused(entry: dict[str, Any]) -> None:
    vector = Vector(entry)

    with pytest.raises(QuoteError, match="bad_signature"):
        inspect_quote(vector.attest, vector.signature, ak=vector.ak)


def test_a_recorded_quote_signed_with_sha1_is_refused() -> None:
    ak = Vector(TABLE[0]).ak
    for name in ("windows-sha1-signature", "keylime-sha1-pcr16"):
        attest, signature = ((VECTORS / name / f"{part}.bin").read_bytes() for part in ("attest", "signature"))
        with pytest.raises(QuoteError, match="unsupported"):
            inspect_quote(attest, signature, ak=ak)


def test_a_recorded_key_that_signs_with_sha1_is_refused() -> None:
    with pytest.raises(EnrolmentError, match="unsupported"):
        AkKey.from_tpm_public((VECTORS / "windows-sha1-signature" / "ak.tpmt").read_bytes())


@pytest.mark.parametrize("entry", OF_VERDICT["accepted"] + OF_VERDICT["shown"])
def test_no_bit_of_a_recorded_quote_can_be_changed(entry: dict[str, Any]) -> None:
    vector = Vector(entry)

    for position in range(8 * len(vector.attest)):
        altered = bytearray(vector.attest)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(QuoteError, match="bad_signature"):
            inspect_quote(bytes(altered), vector.signature, ak=vector.ak)


@pytest.mark.parametrize("entry", OF_VERDICT["accepted"] + OF_VERDICT["shown"])
def test_no_bit_of_a_recorded_signature_can_be_changed(entry: dict[str, Any]) -> None:
    vector = Vector(entry)

    for position in range(8 * len(vector.signature)):
        altered = bytearray(vector.signature)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(QuoteError):
            inspect_quote(vector.attest, bytes(altered), ak=vector.ak)
