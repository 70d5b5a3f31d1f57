"""Certificates as some makers write them, weak ones, cut ones, changed ones, and too much of them."""

import hashlib
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tccp.attestation.enrolment import EkAuthorities, verify_ek_certificate
from tccp.errors import EnrolmentError
from tests.attestation.verdicts import reason_of, verify
from tests.support import certificates as make
from tests.support.certificates import NOW, Authority

UNKNOWN_OID = "1.3.6.1.4.1.55555.1"
SUBJECT_DIRECTORY_ATTRIBUTES = "2.5.29.9"


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def rsa_root() -> Authority:
    return Authority("rsa root", rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


# ---- how makers write, and how attackers do ----------------------------------------------------------------------


def test_critical_extensions_are_known_or_refused(root: Authority) -> None:
    attributes = make.unknown(SUBJECT_DIRECTORY_ATTRIBUTES, b"\x30\x00", critical=True)
    strange = make.unknown(UNKNOWN_OID, critical=True)
    harmless = make.unknown(UNKNOWN_OID, critical=False)

    def certificate(*more: make.Extension) -> bytes:
        return root.issue(make.new_key(), extensions=[*make.ek_extensions(), *more])

    verify(certificate(attributes), root.der)
    verify(certificate(harmless), root.der)
    assert reason_of(certificate(strange), root.der) == "unsupported"
    assert reason_of(certificate(attributes, strange), root.der) == "unsupported"


def test_a_critical_extension_of_an_authority_that_nobody_knows_is_refused(root: Authority) -> None:
    for oid in (UNKNOWN_OID, SUBJECT_DIRECTORY_ATTRIBUTES):
        extensions = [*make.authority_extensions(), make.unknown(oid, b"\x30\x00", critical=True)]
        strange = root.below("strange", extensions=extensions)
        assert reason_of(strange.issue(make.new_key()), root.der, chain=(strange.der,)) == "unsupported"


def test_an_extension_that_cannot_be_read_is_refused(root: Authority) -> None:
    for oid in ("2.5.29.37", "2.5.29.15", "2.5.29.17", "2.5.29.19"):  # both usages, alternative name, constraints
        der = root.issue(make.new_key(), extensions=[make.unknown(oid, b"\x04\x01\x00", critical=False)])
        assert reason_of(der, root.der) in {"malformed", "untrusted"}


@pytest.mark.filterwarnings("ignore:Parsed a serial number:DeprecationWarning")
def test_serial_number_0_is_accepted(rsa_root: Authority) -> None:
    zero = rsa_root.reissue(rsa_root.issue(make.new_key()), {1: b"\x02\x01\x00"})

    assert verify(zero, rsa_root.der).serial == "0"


def test_an_rsa_key_under_the_identifier_of_oaep_is_read(rsa_root: Authority, rsa_key: rsa.RSAPrivateKey) -> None:
    certificate = rsa_root.issue(rsa_key, extensions=make.ek_extensions(make.ENCIPHER))
    as_oaep = rsa_root.reissue(certificate, {6: make.spki_with(rsa_key, make.RSAES_OAEP)})

    assert verify(as_oaep, rsa_root.der).spki == make.spki(rsa_key)
    assert verify(as_oaep, rsa_root.der).sha256 == hashlib.sha256(as_oaep).digest()


def test_no_byte_of_a_certificate_with_the_identifier_of_oaep_can_be_changed(
    rsa_root: Authority, rsa_key: rsa.RSAPrivateKey
) -> None:
    certificate = rsa_root.issue(rsa_key, extensions=make.ek_extensions(make.ENCIPHER))
    as_oaep = rsa_root.reissue(certificate, {6: make.spki_with(rsa_key, make.RSAES_OAEP)})
    forged = Authority(rsa_root.name, rsa_key).reissue(certificate, {6: make.spki_with(rsa_key, make.RSAES_OAEP)})
    authorities = EkAuthorities([rsa_root.der])

    for position in range(len(as_oaep)):
        altered = bytearray(as_oaep)
        altered[position] ^= 1 << position % 8
        with pytest.raises(EnrolmentError):
            verify_ek_certificate(bytes(altered), [], authorities=authorities, now=NOW)
    assert reason_of(forged, rsa_root.der) == "untrusted"


def test_authorities_may_sign_by_pss_or_hold_a_key_for_pss_alone(rsa_root: Authority) -> None:
    pss = padding.PSS(padding.MGF1(SHA256()), 32)
    below = rsa_root.below("pss", key=rsa.generate_private_key(65537, 2048))
    for_pss = rsa_root.reissue(below.der, {6: make.spki_with(below.key, make.RSASSA_PSS)})

    verify(rsa_root.issue(make.new_key(), padding=pss), rsa_root.der)
    verify(below.issue(make.new_key(), padding=pss), rsa_root.der, chain=(for_pss,))
    assert reason_of(below.issue(make.new_key()), rsa_root.der, chain=(for_pss,)) == "untrusted"


def test_sha1_counts_nowhere_below_an_authority(rsa_root: Authority) -> None:
    ek = rsa_root.reissue(rsa_root.issue(make.new_key()), {2: make.SHA1_WITH_RSA})
    middle = rsa_root.below("middle", key=rsa.generate_private_key(65537, 2048))
    weak = rsa_root.reissue(middle.der, {2: make.SHA1_WITH_RSA})

    assert reason_of(ek, rsa_root.der) == "unsupported"
    assert reason_of(middle.issue(make.new_key()), rsa_root.der, chain=(weak,)) == "unsupported"
    verify(middle.issue(make.new_key()), weak)  # configured, it is trusted by itself: who signed it does not matter
    verify(middle.issue(make.new_key()), rsa_root.der, chain=(middle.der,))  # the control: only the hash was wrong


@pytest.mark.parametrize("bits", [1024, 1536])
def test_short_rsa_keys_are_refused(root: Authority, bits: int) -> None:
    short = rsa.generate_private_key(65537, bits)
    authority = root.below("short", key=short)

    assert reason_of(root.issue(short, extensions=make.ek_extensions(make.ENCIPHER)), root.der) == "unsupported"
    assert reason_of(authority.issue(make.new_key()), root.der, chain=(authority.der,)) == "unsupported"


def test_keys_that_no_tpm_here_has_are_refused(root: Authority) -> None:
    for key in (
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(3, 2048),
    ):
        assert reason_of(root.issue(key), root.der) == "unsupported"


def test_no_bit_of_a_certificate_can_be_changed(root: Authority) -> None:
    der = root.issue(make.new_key())
    authorities = EkAuthorities([root.der])

    for position in range(len(der) * 8):
        altered = bytearray(der)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(EnrolmentError):
            verify_ek_certificate(bytes(altered), [], authorities=authorities, now=NOW)


def test_no_part_of_a_certificate_is_one(root: Authority) -> None:
    der = root.issue(make.new_key())

    for form in (der, make.pem(der)):
        for size in range(0, len(form) - 1, 7):
            assert reason_of(form[:size], root.der) == "malformed"


def test_nothing_may_follow_a_certificate_inside_its_pem(root: Authority) -> None:
    der = root.issue(make.new_key())
    longer = ssl.DER_cert_to_PEM_cert(der + b"\0").encode()

    verify(ssl.DER_cert_to_PEM_cert(der).encode(), root.der)
    assert reason_of(longer, root.der) == "malformed"


def test_what_is_too_much_is_refused_before_it_is_parsed(root: Authority) -> None:
    der = root.issue(make.new_key())

    assert reason_of(der + b"\0" * 65536, root.der) == "too_large"
    assert reason_of(der + der, root.der) == "too_large"
    assert reason_of(make.pem(der, der), root.der) == "too_large"
    assert reason_of(der, root.der, chain=(root.der,) * 17) == "too_large"
    assert reason_of(der, root.der, chain=(root.der * 17,)) == "too_large"
    assert reason_of(der, root.der, chain=(b"\n" * 65537,)) == "too_large"
    assert reason_of(der + b"\0" * 5 + b"\x01", root.der) in {"malformed", "too_large"}


def test_garbage_in_the_chain_is_refused(root: Authority) -> None:
    der = root.issue(make.new_key())

    for garbage in (b"", b"\0", b"0", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x82\xff\xff", b"hello"):
        assert reason_of(der, root.der, chain=(garbage,)) == "malformed"


def test_a_file_of_authorities_holds_authorities_alone(root: Authority) -> None:
    ek = root.issue(make.new_key())
    private_key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"

    for file, reason in [
        (make.pem(root.der, ek), "key_attributes"),
        (make.pem(root.der) + private_key, "malformed"),
        (make.pem(root.der) + b"-----BEGIN CERTIFICATE-----\n", "malformed"),
        (b"", "malformed"),
        (b"nothing here\n", "malformed"),
        (b"\n" * (4 << 20) + make.pem(root.der), "too_large"),
    ]:
        for put in (lambda file: EkAuthorities([file]), lambda file: EkAuthorities([], [file])):
            with pytest.raises(EnrolmentError) as refused:
                put(file)
            assert refused.value.reason == reason


def test_an_authority_given_twice_counts_once(root: Authority) -> None:
    assert len(EkAuthorities([root.der, make.pem(root.der), root.der + root.der])) == 1
