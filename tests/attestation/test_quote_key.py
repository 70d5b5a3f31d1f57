"""AkKey: the forms in which a key comes, and what is no attestation key; bare signatures made whole."""

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tccp.attestation.quote import AkKey, inspect_quote, verify_quote, wrap_signature
from tccp.errors import EnrolmentError, QuoteError
from tests.attestation.test_quote import GOOD, NONCE, PCRS, good_attest
from tests.support.forger import AK_ATTRIBUTES, Forger, private_key, tpm2b

FORGER = Forger("p256", "ecdsa", "sha256")
SPKI = FORGER.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "rsa4096", "p256", "p384"])
def test_a_key_is_the_same_in_each_form(kind: str) -> None:
    forger = Forger(kind, "ecdsa" if kind.startswith("p") else "rsassa", "sha256")
    spki = forger.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    area = forger.tpm_public()

    bare, whole = AkKey.from_spki(spki), AkKey.from_tpm_public(area)

    assert (bare.spki, bare.name, bare.kind) == (spki, b"", kind)
    assert AkKey.from_tpm_public(tpm2b(area)) == whole
    assert (whole.spki, whole.kind, len(whole.name)) == (spki, kind, 34)


FIXED_TPM, FIXED_PARENT, ORIGIN, RESTRICTED, DECRYPT, SIGN = 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17, 1 << 18


@pytest.mark.parametrize("bit", [FIXED_TPM, FIXED_PARENT, ORIGIN, RESTRICTED, SIGN, DECRYPT])
def test_a_key_with_one_attribute_of_no_attestation_key_is_refused(bit: int) -> None:
    with pytest.raises(EnrolmentError, match="key_attributes"):
        AkKey.from_tpm_public(FORGER.tpm_public(attributes=AK_ATTRIBUTES ^ bit))


def test_the_key_of_a_certificate_authority_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - weak on purpose
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    with pytest.raises(EnrolmentError, match="unsupported"):
        AkKey.from_spki(spki)


def test_a_second_encoding_of_a_key_is_refused() -> None:
    point = FORGER.public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point

    with pytest.raises(EnrolmentError, match="malformed"):
        AkKey.from_spki(compressed)
    with pytest.raises(EnrolmentError, match="malformed"):
        AkKey.from_spki(SPKI + b"\0")


def test_a_point_off_its_curve_is_refused() -> None:
    with pytest.raises(EnrolmentError, match="malformed"):
        AkKey.from_spki(SPKI[:-1] + bytes([SPKI[-1] ^ 1]))


def test_a_key_does_not_print_its_handle() -> None:
    assert "cdata" not in repr(AkKey.from_spki(SPKI))


# ---- bare signatures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_a_bare_ecdsa_signature_is_made_whole(kind: str, hash_name: str) -> None:
    key = private_key(kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    ak = AkKey.from_tpm_public(Forger(kind, "ecdsa", hash_name).tpm_public())
    attest = good_attest(hash_name).encode()

    for _ in range(20):
        bare = key.sign(attest, ec.ECDSA(getattr(hashes, hash_name.upper())()))
        whole = wrap_signature(bare, ak=ak, hash_name=hash_name)
        assert verify_quote(attest, whole, PCRS, ak=ak, qualifying_data=NONCE).ak == ak


def test_a_bare_rsa_signature_is_made_whole() -> None:
    key = private_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    ak = AkKey.from_tpm_public(Forger("rsa2048", "rsapss", "sha256").tpm_public())
    attest = good_attest().encode()
    bare = key.sign(attest, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())

    assert inspect_quote(attest, wrap_signature(bare, ak=ak, pss=True), ak=ak).scheme == "rsapss"
    with pytest.raises(QuoteError, match="bad_signature"):
        inspect_quote(attest, wrap_signature(bare, ak=ak), ak=ak)


@pytest.mark.parametrize(
    "der",
    [
        "3005 0200 020101",  # a number without a byte
        "3007 020101 020102 ff",
        "3009 020101 020102 020103",
        f"3080 023e{'11' * 62} 023e{'11' * 62}",  # 128 bytes are no short length
        f"307f 023e{'11' * 62} 023d{'11' * 60}",
    ],
)
def test_der_of_another_form_is_no_signature(der: str) -> None:
    with pytest.raises(QuoteError) as refused:
        wrap_signature(bytes.fromhex(der), ak=GOOD.ak)
    assert refused.value.reason == "malformed"


def test_a_number_is_as_it_stands_but_for_its_leading_zeros() -> None:
    longest = bytes.fromhex(f"307f 023e{'58' * 62} 023d{'00' * 3}{'58' * 58}")

    made = wrap_signature(longest, ak=GOOD.ak)
    assert made == bytes.fromhex(f"0018000b 003e{'58' * 62} 003a{'58' * 58}")


def test_bytes_that_are_no_signature_are_not_made_whole() -> None:
    der = bytes.fromhex("3006020101020102")
    assert wrap_signature(der, ak=GOOD.ak) == bytes.fromhex("0018000b 0001 01 0001 02")

    for length in range(len(der)):
        with pytest.raises(QuoteError, match="malformed"):
            wrap_signature(der[:length], ak=GOOD.ak)
    for position in range(8 * len(der)):
        changed = bytearray(der)
        changed[position // 8] ^= 1 << position % 8
        if position // 8 not in (4, 7):
            with pytest.raises(QuoteError, match="malformed"):
                wrap_signature(bytes(changed), ak=GOOD.ak)
    with pytest.raises(QuoteError, match="malformed"):
        wrap_signature(b"\x30\x81" + bytes(300), ak=GOOD.ak)
    with pytest.raises(QuoteError, match="too_large"):
        wrap_signature(bytes(513), ak=AkKey.from_tpm_public(Forger("rsa2048", "rsassa", "sha256").tpm_public()))
    with pytest.raises(ValueError, match="not a PCR bank"):
        wrap_signature(der, ak=GOOD.ak, hash_name="md5")


def test_an_inspected_quote_covers_only_the_values_that_it_hashes() -> None:
    shown = inspect_quote(GOOD.attest, GOOD.signature, ak=GOOD.ak)

    assert shown.covers(PCRS)
    assert not shown.covers()
    assert not shown.covers(PCRS, PCRS)
    assert (shown.scheme, shown.hash_name, shown.extra_data) == ("ecdsa", "sha256", NONCE)
    assert shown.selections == ((0x000B, (0, 4, 7, 10)),)
