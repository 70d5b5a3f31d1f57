"""verify_quote and verify_quotes: what they accept, what they return, and each attack on a rule."""

import dataclasses
import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tccp.attestation.quote import AkKey, QuoteClaim, VerifiedQuote, inspect_quote, verify_quote, verify_quotes
from tccp.errors import QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.attestation.reference import broken_rules
from tests.support.forger import ALGORITHMS, Attest, Forger, tpm2b

NONCE = bytes(range(32))
SELECTION = PcrSelection(PcrBank.SHA256, (0, 4, 7, 10))
PCRS = PcrValues(SELECTION, {index: bytes([index]) * 32 for index in SELECTION.indexes})
SHA256 = ALGORITHMS["sha256"]
FORGER = Forger("p256", "ecdsa", "sha256")
AK = AkKey.from_tpm_public(FORGER.tpm_public())


def select(selection: PcrSelection) -> tuple[int, bytes]:
    return int(selection.bank), selection.mask.to_bytes(3, "little")


def good_attest(hash_name: str = "sha256", pcrs: PcrValues = PCRS, nonce: bytes = NONCE) -> Attest:
    digest = hashlib.new(hash_name, pcrs.concatenated).digest()
    return Attest(extra_data=nonce, selections=(select(pcrs.selection),), pcr_digest=digest)


def claim_of(attest: Attest, forger: Forger = FORGER, ak: AkKey = AK, pcrs: PcrValues = PCRS) -> QuoteClaim:
    encoded = attest.encode()
    return QuoteClaim(encoded, forger.sign(encoded), pcrs, ak, NONCE)


def verify(claim: QuoteClaim) -> VerifiedQuote:
    return verify_quote(claim.attest, claim.signature, claim.pcrs, ak=claim.ak, qualifying_data=claim.qualifying_data)


def refusal(claim: QuoteClaim) -> str:
    """The reason for which both functions refuse *claim*, with good ones around it."""
    good = claim_of(good_attest())
    with pytest.raises(QuoteError) as single:
        verify(claim)
    before, verdict, after = verify_quotes([good, claim, good])
    assert isinstance(before, VerifiedQuote)
    assert isinstance(after, VerifiedQuote)
    assert isinstance(verdict, QuoteError)
    assert verdict.reason == single.value.reason
    return single.value.reason


# ---- what is accepted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "scheme", "hash_name"), Forger.EACH)
def test_a_quote_of_each_algorithm_is_accepted(kind: str, scheme: str, hash_name: str) -> None:
    forger = Forger(kind, scheme, hash_name)
    ak = AkKey.from_tpm_public(forger.tpm_public())
    claim = claim_of(good_attest(hash_name), forger, ak)

    quote = verify(claim)

    assert broken_rules(claim) == set()
    assert (ak.kind, quote.ak, quote.pcrs, quote.qualifying_data) == (kind, ak, PCRS, NONCE)
    assert (quote.clock_ms, quote.reset_count, quote.restart_count) == (123_456_789, 7, 2)
    assert (quote.safe, quote.firmware_version) == (True, 0x2020_0312_0012_0003)


def test_an_inspected_quote_says_what_was_signed_and_covers_that_alone() -> None:
    claim = claim_of(good_attest())
    seen = inspect_quote(claim.attest, claim.signature, ak=AK)
    others = PcrSelection(PcrBank.SHA256, (0, 4, 7, 11))
    elsewhere = PcrValues(others, dict(zip(others.indexes, PCRS.values.values(), strict=True)))

    assert (seen.clock_ms, seen.reset_count, seen.restart_count) == (123_456_789, 7, 2)
    assert (seen.safe, seen.firmware_version) == (True, 0x2020_0312_0012_0003)
    assert (seen.qualified_signer, seen.extra_data) == (b"\x00\x0b" + bytes(32), NONCE)
    assert seen.covers(PCRS)
    assert not seen.covers(elsewhere)  # the same digest
    assert not seen.covers(PcrValues(SELECTION, dict(PCRS.values) | {7: bytes(32)}))  # the same selection


def test_a_quote_is_of_fewer_pcrs_too_but_of_no_others() -> None:
    quote = verify(claim_of(good_attest()))

    fewer = quote.of(PcrSelection(PcrBank.SHA256, (4, 7)))

    assert fewer.pcrs.values == {4: PCRS.values[4], 7: PCRS.values[7]}
    assert (fewer.ak, fewer.qualifying_data) == (quote.ak, quote.qualifying_data)
    assert (fewer.clock_ms, fewer.reset_count, fewer.restart_count) == (123_456_789, 7, 2)
    assert (fewer.safe, fewer.firmware_version) == (True, 0x2020_0312_0012_0003)
    assert quote.of(SELECTION) is quote
    for wanted in (PcrSelection(PcrBank.SHA256, (0, 5)), PcrSelection(PcrBank.SHA384, (0, 4))):
        with pytest.raises(ValueError, match="does not cover"):
            quote.of(wanted)


@pytest.mark.parametrize("bank", [PcrBank.SHA256, PcrBank.SHA384, PcrBank.SHA512])
def test_each_bank_is_accepted_whatever_hash_signs(bank: PcrBank) -> None:
    selection = PcrSelection(bank, (0, 22))
    pcrs = PcrValues(selection, {0: bytes(bank.digest_bytes), 22: b"\xff" * bank.digest_bytes})

    assert verify(claim_of(good_attest(pcrs=pcrs), pcrs=pcrs)).pcrs == pcrs


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "rsa4096"])
@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
def test_the_longest_salt_of_older_tpms_is_accepted(kind: str, hash_name: str) -> None:
    forger = Forger(kind, "rsapss", hash_name, "max")
    ak = AkKey.from_tpm_public(forger.tpm_public())

    assert verify(claim_of(good_attest(hash_name), forger, ak)).ak == ak


def test_a_quote_after_an_unorderly_shutdown_is_accepted_and_says_so() -> None:
    assert not verify(claim_of(good_attest().but(safe=0))).safe


@pytest.mark.parametrize("size", [16, 64])
def test_nonces_of_16_to_64_bytes_are_accepted(size: int) -> None:
    claim = dataclasses.replace(claim_of(good_attest(nonce=bytes(size))), qualifying_data=bytes(size))

    assert verify(claim).qualifying_data == bytes(size)


def test_a_scalar_without_its_leading_zeros_is_accepted() -> None:
    attest = good_attest()
    signed: list[bytes] = []
    while not signed:
        attest = attest.but(clock_ms=attest.clock_ms + 1)
        signature = FORGER.sign(attest.encode())
        r, s = signature[6:38], signature[40:72]
        if r[0] == 0 or s[0] == 0:
            signed = [signature[:4] + tpm2b(r.lstrip(b"\0")) + tpm2b(s.lstrip(b"\0"))]

    assert verify(dataclasses.replace(claim_of(attest), signature=signed[0])).ak == AK


def test_either_of_the_two_s_that_fit_is_accepted() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    claim = claim_of(good_attest())
    other_s = order - int.from_bytes(claim.signature[40:72], "big")

    assert verify(dataclasses.replace(claim, signature=claim.signature[:40] + other_s.to_bytes(32, "big"))).ak == AK


# ---- attacks that break one rule ----------------------------------------------------------------------------------

Attack = Callable[[], QuoteClaim]


def signed(**changes: Any) -> Attack:
    """A quote with these fields, rightly signed."""
    return lambda: claim_of(good_attest().but(**changes))


def of_pcrs(selections: tuple[tuple[int, bytes], ...], values: bytes = PCRS.concatenated) -> Attack:
    return signed(selections=selections, pcr_digest=hashlib.sha256(values).digest())


GOOD = claim_of(good_attest())
OTHER_PCR = PcrValues(SELECTION, {**PCRS.values, 7: bytes(32)})
MASK = select(SELECTION)[1]

ATTACKS: dict[str, tuple[Attack, str, str]] = {
    "bytes that only look like a TPM's": (signed(magic=0xFF544348), "magic", "not_a_quote"),
    "a time attestation": (signed(type=0x8019), "type", "not_a_quote"),
    "a certification": (signed(type=0x8017), "type", "not_a_quote"),
    "the quote of yesterday": (signed(extra_data=bytes(32)), "nonce", "nonce_mismatch"),
    "the start of our nonce": (signed(extra_data=NONCE[:31]), "nonce", "nonce_mismatch"),
    "our nonce and more": (signed(extra_data=NONCE + b"\0"), "nonce", "nonce_mismatch"),
    "no nonce": (signed(extra_data=b""), "nonce", "nonce_mismatch"),
    "another bank": (of_pcrs(((ALGORITHMS["sha384"], MASK),)), "bank", "wrong_pcr_selection"),
    "the sha1 bank": (of_pcrs(((ALGORITHMS["sha1"], MASK),)), "bank", "wrong_pcr_selection"),
    "a PCR left out": (of_pcrs(((SHA256, b"\x91\x00\x00"),)), "indices", "wrong_pcr_selection"),
    "a PCR more": (of_pcrs(((SHA256, b"\x93\x04\x00"),)), "indices", "wrong_pcr_selection"),
    "the resettable PCR 16": (of_pcrs(((SHA256, b"\x91\x00\x01"),)), "indices", "wrong_pcr_selection"),
    "a PCR that no TPM has": (of_pcrs(((SHA256, MASK + b"\x01"),)), "indices", "wrong_pcr_selection"),
    "no PCR at all": (of_pcrs(((SHA256, bytes(3)),)), "indices", "wrong_pcr_selection"),
    "no selection": (of_pcrs(()), "one selection", "wrong_pcr_selection"),
    "the selection twice": (of_pcrs(((SHA256, MASK),) * 2), "one selection", "wrong_pcr_selection"),
    "an empty selection of another bank behind": (
        of_pcrs(((SHA256, MASK), (ALGORITHMS["sha1"], bytes(3)))),
        "one selection",
        "wrong_pcr_selection",
    ),
    "our PCRs split over two selections": (
        of_pcrs(((SHA256, MASK), (SHA256, b"\x00\x04\x00"))),
        "one selection",
        "wrong_pcr_selection",
    ),
    "a selection of two bytes": (
        lambda: claim_of(
            good_attest(pcrs=SMALL).but(selections=((SHA256, b"\x91\x00"),)),
            pcrs=SMALL,
        ),
        "select size",
        "malformed",
    ),
    "a selection of five bytes": (of_pcrs(((SHA256, MASK + bytes(2)),)), "select size", "malformed"),
    "another digest": (signed(pcr_digest=bytes(32)), "digest", "pcr_digest_mismatch"),
    "a digest cut short": (signed(pcr_digest=b""), "digest", "pcr_digest_mismatch"),
    "values of another machine": (lambda: claim_of(good_attest(), pcrs=OTHER_PCR), "digest", "pcr_digest_mismatch"),
    "a digest by another hash": (
        signed(pcr_digest=hashlib.sha512(PCRS.concatenated).digest()),
        "digest",
        "pcr_digest_mismatch",
    ),
    "bytes behind the quote, signed": (signed(left_over=b"\0"), "nothing after attest", "malformed"),
    "bytes behind the signature": (
        lambda: dataclasses.replace(GOOD, signature=GOOD.signature + b"\0"),
        "nothing after the signature",
        "malformed",
    ),
    "neither safe nor unsafe": (signed(safe=2), "safe is yes or no", "malformed"),
}
SMALL = PcrValues(PcrSelection(PcrBank.SHA256, (0, 4, 7)), {0: bytes(32), 4: bytes(32), 7: bytes(32)})


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_one_rule_is_refused_for_that_reason(attack: str) -> None:
    make, rule, reason = ATTACKS[attack]
    claim = make()

    assert broken_rules(claim) == {rule}, "a verifier without this one rule would accept it"
    assert refusal(claim) == reason


def test_bytes_behind_the_quote_that_are_not_signed_are_refused() -> None:
    assert refusal(dataclasses.replace(GOOD, attest=GOOD.attest + b"\0")) == "bad_signature"


def test_a_signature_by_sha1_is_refused() -> None:
    attest = good_attest("sha1")
    for forger in (Forger("rsa2048", "rsassa", "sha1"), Forger("p256", "ecdsa", "sha1")):
        ak = AkKey.from_tpm_public(forger.tpm_public(hash_name="sha256"))
        claim = claim_of(attest, forger, ak)

        assert broken_rules(claim) == {"hash"}
        assert refusal(claim) == "unsupported"


def test_another_scheme_than_the_keys_own_is_refused() -> None:
    own = AkKey.from_tpm_public(Forger("rsa2048", "rsassa", "sha256").tpm_public())
    for forger in (Forger("rsa2048", "rsapss", "sha256"), Forger("rsa2048", "rsassa", "sha384")):
        claim = claim_of(good_attest(forger.hash_name), forger, own)

        assert broken_rules(claim) == set()
        assert refusal(claim) == "bad_signature"
        assert verify(dataclasses.replace(claim, ak=AkKey.from_spki(own.spki))).ak.spki == own.spki


def test_the_signature_of_another_key_is_refused() -> None:
    claim = claim_of(good_attest())
    for kind, scheme, hash_name in Forger.EACH:
        forger = Forger(kind, scheme, hash_name)
        if kind != "p256":
            signature = forger.sign(claim.attest)
            assert refusal(dataclasses.replace(claim, signature=signature)) == "bad_signature"


def test_a_pss_salt_that_no_tpm_makes_is_refused() -> None:
    for salt in (0, 20, 31, 33, 221):
        forger = Forger("rsa2048", "rsapss", "sha256", salt)
        claim = claim_of(good_attest(), forger, AkKey.from_tpm_public(forger.tpm_public()))

        assert broken_rules(claim) == set()
        assert refusal(claim) == "bad_signature"


# ---- bits and lengths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "scheme", "hash_name"), Forger.EACH[:4])
def test_no_bit_of_a_quote_can_be_changed(kind: str, scheme: str, hash_name: str) -> None:
    forger = Forger(kind, scheme, hash_name)
    claim = claim_of(good_attest(hash_name), forger, AkKey.from_tpm_public(forger.tpm_public()))
    altered = []
    for part in ("attest", "signature", "qualifying_data"):
        for position in range(8 * len(getattr(claim, part))):
            changed = bytearray(getattr(claim, part))
            changed[position // 8] ^= 1 << position % 8
            altered.append(dataclasses.replace(claim, **{part: bytes(changed)}))
    for index, value in PCRS.values.items():
        for position in range(8 * len(value)):
            changed = bytearray(value)
            changed[position // 8] ^= 1 << position % 8
            pcrs = PcrValues(SELECTION, {**PCRS.values, index: bytes(changed)})
            altered.append(dataclasses.replace(claim, pcrs=pcrs))

    for one in altered:
        with pytest.raises(QuoteError):
            verify(one)
    assert all(isinstance(verdict, QuoteError) for verdict in verify_quotes(altered))


def test_a_quote_that_was_cut_anywhere_and_signed_again_is_refused() -> None:
    whole = good_attest().encode()
    for length in range(len(whole)):
        claim = QuoteClaim(whole[:length], FORGER.sign(whole[:length]), PCRS, AK, NONCE)
        assert refusal(claim) in ("malformed", "not_a_quote")


def test_a_signature_that_was_cut_anywhere_is_refused() -> None:
    claim = claim_of(good_attest())
    for length in range(len(claim.signature)):
        assert refusal(dataclasses.replace(claim, signature=claim.signature[:length])) == "malformed"


def test_selections_without_end_are_refused() -> None:
    attest = good_attest().but(selections=((SHA256, MASK),) * 17)
    endless = attest.encode().replace(struct.pack(">I", 17), b"\xff" * 4, 1)

    assert refusal(claim_of(attest)) == "malformed"
    assert refusal(QuoteClaim(endless, FORGER.sign(endless), PCRS, AK, NONCE)) == "malformed"


def test_what_is_larger_than_any_tpm_makes_is_refused_before_it_is_hashed() -> None:
    claim = claim_of(good_attest())

    assert refusal(dataclasses.replace(claim, attest=bytes(1025))) == "too_large"
    assert refusal(dataclasses.replace(claim, signature=bytes(1025))) == "too_large"


# ---- what we must not ask for -------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [16, 23])
def test_a_resettable_pcr_cannot_be_asked_for(index: int) -> None:
    pcrs = PcrValues(PcrSelection(PcrBank.SHA256, (0, index)), {0: bytes(32), index: bytes(32)})
    claim = claim_of(good_attest(pcrs=pcrs), pcrs=pcrs)

    assert broken_rules(claim) == set()
    with pytest.raises(ValueError, match="prove nothing"):
        verify(claim)
    with pytest.raises(ValueError, match="prove nothing"):
        verify_quotes([claim])


def test_the_sha1_bank_cannot_be_asked_for() -> None:
    pcrs = PcrValues(PcrSelection(PcrBank.SHA1, (0,)), {0: bytes(20)})

    with pytest.raises(ValueError, match="prove nothing"):
        verify(claim_of(good_attest(pcrs=pcrs), pcrs=pcrs))


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_nonce_of_another_size_cannot_be_asked_for(size: int) -> None:
    claim = dataclasses.replace(claim_of(good_attest(nonce=bytes(size))), qualifying_data=bytes(size))

    with pytest.raises(ValueError, match="16 to 64"):
        verify(claim)


# ---- the verdict as a value ---------------------------------------------------------------------------------------


def test_nobody_else_can_make_a_verified_quote() -> None:
    quote = verify(claim_of(good_attest()))

    with pytest.raises(TypeError, match="only verify_quote"):
        VerifiedQuote()
    with pytest.raises(TypeError):
        dataclasses.replace(quote, pcrs=OTHER_PCR)
    with pytest.raises(dataclasses.FrozenInstanceError):
        quote.pcrs = OTHER_PCR  # type: ignore[misc]
