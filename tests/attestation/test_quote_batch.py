"""verify_quotes gives the verdicts of verify_quote, in order, whatever stands beside what, and from any thread."""

import dataclasses
import hashlib
import random
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tccp.attestation.quote import AkKey, QuoteClaim, VerifiedQuote, verify_quote, verify_quotes
from tccp.errors import QuoteError
from tests.attestation.test_quote import GOOD, NONCE, PCRS, claim_of, good_attest
from tests.support.forger import CURVES, Forger, private_key, tpm2b
from tests.support.weierstrass import Curve, Point


def single(claim: QuoteClaim) -> VerifiedQuote | QuoteError:
    try:
        return verify_quote(
            claim.attest, claim.signature, claim.pcrs, ak=claim.ak, qualifying_data=claim.qualifying_data
        )
    except QuoteError as error:
        return error


def comparable(verdicts: list[VerifiedQuote | QuoteError]) -> list[object]:
    return [verdict.reason if isinstance(verdict, QuoteError) else verdict for verdict in verdicts]


def spoiled(claim: QuoteClaim, chance: random.Random) -> QuoteClaim:
    """A claim with one thing wrong, or nothing."""
    part = chance.choice(["attest", "signature", "qualifying_data", "ak", "", "", ""])
    if part == "":
        return claim
    if part == "ak":
        return dataclasses.replace(claim, ak=chance.choice(GOOD_OF_EACH).ak)
    changed = bytearray(getattr(claim, part))
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return dataclasses.replace(claim, **{part: bytes(changed)})


def good_claim(forger: Forger) -> QuoteClaim:
    return claim_of(good_attest(forger.hash_name), forger, AkKey.from_tpm_public(forger.tpm_public()))


GOOD_OF_EACH = [good_claim(Forger(*each)) for each in Forger.EACH]


@pytest.mark.parametrize("seed", range(20))
def test_any_mix_of_good_and_bad_gets_the_verdicts_of_one_at_a_time(seed: int) -> None:
    chance = random.Random(seed)
    claims = [spoiled(chance.choice(GOOD_OF_EACH), chance) for _ in range(chance.randrange(100))]

    assert comparable(verify_quotes(claims)) == comparable([single(claim) for claim in claims])


@pytest.mark.parametrize("count", range(18))
@pytest.mark.parametrize("good", [GOOD_OF_EACH[i] for i in (0, 1, 2, 3, 7, 8)], ids=lambda good: good.ak.kind)
def test_one_bad_quote_among_any_number_of_good_ones_is_found(good: QuoteClaim, count: int) -> None:
    changed = bytearray(good.signature)
    changed[-1] ^= 1
    bad = dataclasses.replace(good, signature=bytes(changed))

    for position in range(count):
        claims = [good] * count
        claims[position] = bad
        refused = [isinstance(verdict, QuoteError) for verdict in verify_quotes(claims)]
        assert refused == [i == position for i in range(count)]


def test_many_threads_verify_with_one_key_at_once() -> None:
    changed = bytearray(GOOD.signature)
    changed[-1] ^= 1
    bad = dataclasses.replace(GOOD, signature=bytes(changed))
    claims = [GOOD, bad, *GOOD_OF_EACH[:4]] * 3
    expected = [isinstance(single(claim), VerifiedQuote) for claim in claims]
    found: list[list[bool]] = []

    def work() -> None:
        for _ in range(10):
            found.append([isinstance(verdict, VerifiedQuote) for verdict in verify_quotes(claims)])
            found.append([isinstance(single(claim), VerifiedQuote) for claim in claims])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [expected] * 160


# ---- signatures of somebody who chooses his key to meet the arithmetic ---------------------------------------------


def claim_signed(curve: Curve, public: Point, r: int, s: int, attest: bytes) -> QuoteClaim:
    numbers = ec.EllipticCurvePublicNumbers(public[0], public[1], CURVES[curve.kind][1]).public_key()
    spki = numbers.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = bytes.fromhex("0018000b")
    size = CURVES[curve.kind][2]
    signature = head + tpm2b(r.to_bytes(size, "big")) + tpm2b(s.to_bytes(size, "big"))
    return QuoteClaim(attest, signature, PCRS, AkKey.from_spki(spki), NONCE)


def verdicts(claim: QuoteClaim) -> list[str]:
    """What one and what eight at once say."""
    found = [single(claim), *verify_quotes([claim] * 8), *verify_quotes([GOOD_OF_EACH[0], claim])[1:]]
    return sorted({verdict.reason if isinstance(verdict, QuoteError) else "accepted" for verdict in found})


@pytest.fixture(params=["p256", "p384"])
def curve(request: pytest.FixtureRequest) -> Curve:
    return Curve.named(request.param)


@pytest.fixture
def attest() -> bytes:
    return good_attest().encode()


@pytest.fixture
def digest(attest: bytes) -> int:
    return int.from_bytes(hashlib.sha256(attest).digest(), "big")


def test_a_signature_whose_sum_is_the_point_at_infinity_is_refused(curve: Curve, attest: bytes, digest: int) -> None:
    private = 0x1234567
    r = -digest * pow(private, -1, curve.order) % curve.order

    claim = claim_signed(curve, curve.multiply(private, curve.generator), r, 99, attest)

    assert verdicts(claim) == ["bad_signature"]


def test_a_signature_that_adds_a_point_to_itself_is_accepted(curve: Curve, attest: bytes, digest: int) -> None:
    nonce = 0x7654321
    r = curve.multiply(nonce, curve.generator)[0] % curve.order
    private = digest * pow(r, -1, curve.order) % curve.order
    s = 2 * digest * pow(nonce, -1, curve.order) % curve.order

    claim = claim_signed(curve, curve.multiply(private, curve.generator), r, s, attest)

    assert verdicts(claim) == ["accepted"]


def test_a_signature_whose_sum_lies_beyond_the_order_is_accepted(curve: Curve, attest: bytes, digest: int) -> None:
    r, point = next((x - curve.order, curve.lift(x)) for x in range(curve.order + 1, curve.prime) if curve.lift(x))
    assert point
    s = 12345
    inverse = pow(r, -1, curve.order)
    public = curve.add(
        curve.multiply(s * inverse % curve.order, point),
        curve.multiply(-digest * inverse % curve.order, curve.generator),
    )

    assert verdicts(claim_signed(curve, public, r, s, attest)) == ["accepted"]


@pytest.mark.parametrize("scalar", ["zero", "order", "order and one", "all ones"])
def test_a_scalar_out_of_range_is_refused(curve: Curve, attest: bytes, scalar: str) -> None:
    size = CURVES[curve.kind][2]
    value = {"zero": 0, "order": curve.order, "order and one": curve.order + 1, "all ones": 256**size - 1}[scalar]
    public = curve.multiply(3, curve.generator)

    assert verdicts(claim_signed(curve, public, value, 5, attest)) == ["bad_signature"]
    assert verdicts(claim_signed(curve, public, 5, value, attest)) == ["bad_signature"]


def test_an_rsa_signature_not_below_the_modulus_is_refused() -> None:
    good = GOOD_OF_EACH[0]
    signature, modulus = (
        int.from_bytes(good.signature[6:], "big"),
        private_key("rsa2048").public_key().public_numbers().n,
    )

    for value in (modulus, modulus + 1, signature + modulus, (1 << 2048) - 1):
        if value < 1 << 2048:
            claim = dataclasses.replace(good, signature=good.signature[:6] + value.to_bytes(256, "big"))
            assert verdicts(claim) == ["bad_signature"]
