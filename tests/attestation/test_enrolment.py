"""Keys that a test makes itself: whose they may be, and what a challenge proves about them."""

import dataclasses
import hashlib
import math
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tccp.attestation.enrolment import (
    ActivationChallenge,
    BoundAk,
    EkAuthorities,
    EkCertificate,
    TrustedEk,
    bind_ek,
    challenge_ak,
    confirm_activation,
    pinned_ek,
    verify_ek_certificate,
)
from tccp.core.tpm_public import tpm_public_parse
from tccp.errors import EnrolmentError
from tests.support import certificates as make
from tests.support import public_areas as areas
from tests.support.certificates import NOW, Authority
from tests.support.public_areas import PrivateKey

SECRET = bytes(range(32))


def certify(key: PrivateKey) -> EkCertificate:
    root = Authority()
    return verify_ek_certificate(root.issue(key), [], authorities=EkAuthorities([root.der]), now=NOW)


def pin(area: bytes) -> TrustedEk:
    return pinned_ek(area, pinned_sha256=hashlib.sha256(tpm_public_parse(area).spki).digest())


def refusal(function, *args, **kwargs) -> str:
    with pytest.raises(EnrolmentError) as refused:
        function(*args, **kwargs)
    return refused.value.reason


def name_or_reason(area: bytes) -> bytes | str:
    try:
        return tpm_public_parse(area).name
    except EnrolmentError as refused:
        return refused.reason


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return make.new_key()


@pytest.fixture(scope="module")
def ek(key: ec.EllipticCurvePrivateKey) -> TrustedEk:
    return pin(areas.ek_area(key))


@pytest.fixture(scope="module")
def ak() -> bytes:
    return areas.ak_area(make.new_key())


# ---- which EK --------------------------------------------------------------------------------------------------


def test_an_ek_is_bound_to_the_certificate_of_its_own_key(key: PrivateKey, rsa_key: PrivateKey) -> None:
    for own in (key, rsa_key, ec.generate_private_key(ec.SECP384R1())):
        area = areas.ek_area(own)
        certificate = certify(own)
        trusted = bind_ek(area, certificate)

        assert trusted.name == areas.name_of(area)
        assert trusted.id == hashlib.sha256(make.spki(own)).digest()
        assert bind_ek(areas.tpm2b(area), certificate) == trusted
        assert pinned_ek(area, pinned_sha256=trusted.id).id == trusted.id


def test_the_certificate_of_another_tpm_is_refused(key: PrivateKey, rsa_key: PrivateKey) -> None:
    for certified, shown in ((make.new_key(), key), (rsa_key, key), (key, rsa_key)):
        assert refusal(bind_ek, areas.ek_area(shown), certify(certified)) == "key_mismatch"


def test_another_ek_than_the_pinned_one_is_refused(key: PrivateKey, ek: TrustedEk) -> None:
    other = areas.ek_area(make.new_key())

    assert refusal(pinned_ek, other, pinned_sha256=ek.id) == "key_mismatch"
    assert refusal(pinned_ek, areas.ek_area(key), pinned_sha256=ek.id[:31]) == "key_mismatch"
    assert refusal(pinned_ek, areas.ek_area(key), pinned_sha256=b"") == "key_mismatch"


@pytest.mark.parametrize("attribute", sorted(areas.ROLE_BITS))
def test_an_ek_without_the_attributes_of_one_is_refused(attribute: str, key: PrivateKey, ek: TrustedEk) -> None:
    flipped = areas.ek_area(key, attributes=areas.EK_ATTRIBUTES ^ areas.ROLE_BITS[attribute])

    assert refusal(bind_ek, flipped, certify(key)) == "key_attributes"
    assert refusal(pinned_ek, flipped, pinned_sha256=ek.id) == "key_attributes"


def test_an_ak_is_no_ek(key: PrivateKey) -> None:
    assert refusal(bind_ek, areas.ak_area(key), certify(key)) == "key_attributes"


# ---- which AK --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", sorted(areas.ROLE_BITS))
def test_an_ak_without_the_attributes_of_one_is_refused(attribute: str, ek: TrustedEk, ak: bytes) -> None:
    flipped = areas.with_attributes(ak, areas.AK_ATTRIBUTES ^ areas.ROLE_BITS[attribute])

    assert refusal(challenge_ak, flipped, ek=ek, secret=SECRET) == "key_attributes"


def test_an_ek_is_no_ak(key: PrivateKey, ek: TrustedEk) -> None:
    assert refusal(challenge_ak, areas.ek_area(key), ek=ek, secret=SECRET) == "key_attributes"


def test_every_changed_bit_of_a_public_area_is_another_key_or_none(ek: TrustedEk) -> None:
    for area in (areas.ak_area(make.new_key()), areas.ek_area(make.new_key())):
        name = tpm_public_parse(area).name
        assert name == areas.name_of(area)
        for position in range(len(area) * 8):
            altered = bytearray(area)
            altered[position // 8] ^= 1 << position % 8
            assert name_or_reason(bytes(altered)) != name


def test_no_part_of_a_public_area_is_one(rsa_key: PrivateKey, ak: bytes) -> None:
    for area in (ak, areas.tpm2b(ak), areas.ek_area(rsa_key), areas.tpm2b(areas.ek_area(rsa_key))):
        for size in range(len(area)):
            assert refusal(tpm_public_parse, area[:size]) == "malformed"
        assert refusal(tpm_public_parse, area + b"\0") == "malformed"


def test_one_key_has_one_name_in_every_wrapping(ak: bytes) -> None:
    assert tpm_public_parse(areas.tpm2b(ak)) == tpm_public_parse(ak)


def test_an_rsa_key_that_can_be_factored_from_its_public_half_is_refused(ek: TrustedEk) -> None:
    """CVE-2017-15361: both primes are a power of 65537 modulo a product of small primes."""
    product = math.prod(prime for prime in range(2, 702) if all(prime % divisor for divisor in range(2, prime)))
    largest = (1 << 1024) // product
    p, q = ((largest - distance) * product + pow(65537, distance, product) for distance in (4321, 8765))
    template = areas.ak_area(rsa.generate_private_key(65537, 2048))[:-256]

    assert refusal(challenge_ak, template + (p * q).to_bytes(256, "big"), ek=ek, secret=SECRET) == "unsupported"
    challenge_ak(template + (p * q ^ 2).to_bytes(256, "big"), ek=ek, secret=SECRET)


# ---- what a challenge proves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("aes_bits", [128, 192, 256])
@pytest.mark.parametrize("name_hash", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "p256", "p384"])
def test_the_holder_of_the_ek_reads_the_secret(kind: str, name_hash: str, aes_bits: int, ak: bytes, keys) -> None:
    how = {"name_hash": name_hash, "aes_bits": aes_bits}
    trusted = pin(areas.ek_area(keys[kind], **how))

    challenge = challenge_ak(ak, ek=trusted, secret=SECRET)
    answer = areas.activate(keys[kind], areas.name_of(ak), challenge.id_object, challenge.encrypted_secret, **how)
    bound = confirm_activation(challenge, answer)

    assert bound.ek == trusted
    assert (bound.ak_public, bound.ak_name) == (ak, areas.name_of(ak))
    assert bound.ak_spki == tpm_public_parse(ak).spki


@pytest.fixture(scope="module")
def keys(rsa_key: PrivateKey, key: PrivateKey) -> dict[str, PrivateKey]:
    return {
        "rsa2048": rsa_key,
        "rsa3072": rsa.generate_private_key(65537, 3072),
        "p256": key,
        "p384": ec.generate_private_key(ec.SECP384R1()),
    }


def test_only_the_named_ak_beside_the_right_ek_opens_a_challenge(key: PrivateKey, ek: TrustedEk, ak: bytes) -> None:
    challenge = challenge_ak(ak, ek=ek, secret=SECRET)
    blobs = challenge.id_object, challenge.encrypted_secret
    other = areas.name_of(areas.ak_area(make.new_key()))

    assert areas.activate(key, challenge.ak_name, *blobs) == SECRET
    for holder, name in ((key, other), (make.new_key(), challenge.ak_name)):
        with pytest.raises(ValueError, match="TPM_RC_INTEGRITY"):
            areas.activate(holder, name, *blobs)


def test_two_challenges_with_one_secret_have_nothing_in_common(rsa_key: PrivateKey, ek: TrustedEk, ak: bytes) -> None:
    for trusted in (ek, pin(areas.ek_area(rsa_key))):
        first, second = (challenge_ak(ak, ek=trusted, secret=SECRET) for _ in range(2))
        assert first.id_object != second.id_object
        assert first.encrypted_secret != second.encrypted_secret
        assert SECRET not in first.id_object + first.encrypted_secret


def test_no_bit_of_the_answer_may_differ(ek: TrustedEk, ak: bytes) -> None:
    challenge = challenge_ak(ak, ek=ek, secret=SECRET)

    for position in range(len(SECRET) * 8):
        altered = bytearray(SECRET)
        altered[position // 8] ^= 1 << position % 8
        assert refusal(confirm_activation, challenge, bytes(altered)) == "activation_failed"
    confirm_activation(challenge, SECRET)


@pytest.mark.parametrize("answer", [b"", SECRET[:-1], SECRET + b"\0", b"\0" * 32, SECRET * 2])
def test_an_answer_of_another_length_is_refused(answer: bytes, ek: TrustedEk, ak: bytes) -> None:
    assert refusal(confirm_activation, challenge_ak(ak, ek=ek, secret=SECRET), answer) == "activation_failed"


# ---- values that are proofs ------------------------------------------------------------------------------------


def test_proofs_are_made_by_their_functions_alone(key: PrivateKey, ek: TrustedEk, ak: bytes) -> None:
    challenge = challenge_ak(ak, ek=ek, secret=SECRET)
    bound = confirm_activation(challenge, SECRET)
    public = tpm_public_parse(ak)

    for forge in (
        lambda: BoundAk(ek=ek, ak=public, proof=None),
        lambda: TrustedEk(public=public, certificate=None, proof=object()),
        lambda: ActivationChallenge(b"", b"", ek, public, challenge.secret, proof=None),
    ):
        with pytest.raises(TypeError, match="made by the functions"):
            forge()
    for proof in (bound, ek, challenge, certify(key)):
        with pytest.raises((TypeError, ValueError)):
            dataclasses.replace(proof)
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            proof.ek = ek


def test_a_secret_is_not_printed(ek: TrustedEk, ak: bytes) -> None:
    secret = os.urandom(32)
    shown = repr(challenge_ak(ak, ek=ek, secret=secret))

    assert repr(secret)[2:-1] not in shown
    assert secret.hex() not in shown
