"""Quotes that other projects recorded from real TPMs, each with its verdict."""

from pathlib import Path

from tccp.attestation.quote import AkKey, verify_quote
from tccp.model import PcrBank, PcrSelection, PcrValues

VECTORS = Path(__file__).parents[1] / "vectors" / "quote"


def test_the_quote_of_a_laptop_is_accepted() -> None:
    folder = VECTORS / "guard-good-1"
    selection = PcrSelection(PcrBank.SHA256, tuple(range(9)))
    pcrs = PcrValues(selection, {i: (folder / "pcrs.bin").read_bytes()[32 * i : 32 * i + 32] for i in range(9)})
    ak = AkKey.from_spki((folder / "ak.spki").read_bytes())
    nonce = bytes.fromhex("57cd4f0b9fbe528a1d23f04d45f1bb0a9fc25a01296ea098ca083b705c8eaa85")

    quote = verify_quote(
        (folder / "attest.bin").read_bytes(),
        (folder / "signature.bin").read_bytes(),
        pcrs,
        ak=ak,
        qualifying_data=nonce,
    )

    assert (quote.clock_ms, quote.reset_count, quote.restart_count, quote.safe) == (202110420, 339, 0, True)
