"""Which certificates make a key an endorsement key: those of real makers, and those of an attacker."""

import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tccp.attestation.enrolment import EkAuthorities, EkCertificate, verify_ek_certificate
from tccp.errors import EnrolmentError
from tests.support import certificates as make
from tests.support.certificates import DAY, NOW, Authority

UNKNOWN_OID = "1.3.6.1.4.1.55555.1"
SUBJECT_DIRECTORY_ATTRIBUTES = "2.5.29.9"


def verify(certificate: bytes, *authorities: bytes, chain: tuple[bytes, ...] = (), now=NOW) -> EkCertificate:
    return verify_ek_certificate(certificate, chain, authorities=EkAuthorities(authorities), now=now)


def reason_of(certificate: bytes, *authorities: bytes, chain: tuple[bytes, ...] = (), now=NOW) -> str:
    with pytest.raises(EnrolmentError) as refused:
        verify(certificate, *authorities, chain=chain, now=now)
    return refused.value.reason


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def rsa_root() -> Authority:
    return Authority("rsa root", rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


# ---- what it says ----------------------------------------------------------------------------------------------


def test_a_verified_certificate_tells_its_key_and_its_tpm(root: Authority) -> None:
    key = make.new_key()
    der = root.issue(key, subject="TPM, 1", serial=0xABC)

    ek = verify(der, root.der)

    assert ek.spki == make.spki(key)
    assert (ek.manufacturer, ek.model, ek.version) == ("id:54434350", "test", "id:0001")
    assert (ek.subject, ek.issuer, ek.serial) == (r"CN=TPM\, 1", "CN=root", "0ABC")
    assert (ek.not_before, ek.not_after) == (NOW - DAY, NOW + DAY)
    assert ek.sha256 == x509.load_der_x509_certificate(der).fingerprint(SHA256())
    assert ek.authority_sha256 == x509.load_der_x509_certificate(root.der).fingerprint(SHA256())


def test_texts_of_a_certificate_are_printable_ascii(root: Authority) -> None:
    nasty = x509.SubjectAlternativeName([make.tpm_name(model="\x1b[2Jé")])
    der = root.issue(make.new_key(), subject="a\x1b[2J\né", extensions=[make.Extension(nasty)])

    ek = verify(der, root.der)

    assert ek.model == "?[2J??"
    assert ek.subject == r"CN=a\1B[2J\0A\C3\A9"


def test_a_tpm_text_of_more_than_64_characters_is_refused(root: Authority) -> None:
    name = x509.SubjectAlternativeName([make.tpm_name(model="x" * 65)])

    assert reason_of(root.issue(make.new_key(), extensions=[make.Extension(name)]), root.der) == "too_large"


def test_pem_and_a_padded_nv_index_are_the_same_certificate(root: Authority) -> None:
    der = root.issue(make.new_key())
    forms = [der, make.pem(der), b"# made by hand\n" + make.pem(der), der + b"\0" * 500, der + b"\xff" * 500]

    assert len({verify(form, root.der).sha256 for form in forms}) == 1


# ---- whom we trust ---------------------------------------------------------------------------------------------


def test_nothing_configured_means_nothing_trusted(root: Authority) -> None:
    assert len(EkAuthorities([])) == 0
    assert reason_of(root.issue(make.new_key())) == "untrusted"


def test_a_certificate_by_an_authority_that_is_not_configured_is_refused(root: Authority) -> None:
    forger = Authority(root.name)  # the same name, another key
    forged = forger.issue(make.new_key())

    assert reason_of(forged, root.der) == "untrusted"
    assert reason_of(forged, root.der, chain=(forger.der,)) == "untrusted"
    verify(forged, forger.der)  # the control: nothing but the authority was wrong


def test_a_self_signed_certificate_is_refused(root: Authority) -> None:
    key = make.new_key()
    alone = Authority("ek", key).issue(key)

    assert reason_of(alone, root.der) == "untrusted"
    assert reason_of(alone, root.der, chain=(alone,)) == "untrusted"


def test_intermediates_come_from_the_node_or_from_the_operator(root: Authority) -> None:
    middle = root.below("middle")
    lower = middle.below("lower")
    ek = lower.issue(make.new_key())
    configured = EkAuthorities([root.der], [make.pem(middle.der, lower.der)])

    assert reason_of(ek, root.der) == "untrusted"
    verify(ek, root.der, chain=(lower.der, middle.der))
    verify(ek, root.der, chain=(make.pem(lower.der, middle.der),))
    verify(ek, root.der, chain=(lower.der + middle.der,))
    verify_ek_certificate(ek, [], authorities=configured, now=NOW)
    assert len(configured) == 1


def test_an_intermediate_alone_can_be_the_authority(root: Authority) -> None:
    middle = root.below("middle")
    other = root.below("other")

    found = verify(middle.issue(make.new_key()), middle.der)

    assert found.authority_sha256 == x509.load_der_x509_certificate(middle.der).fingerprint(SHA256())
    assert reason_of(other.issue(make.new_key()), middle.der, chain=(other.der, root.der)) == "untrusted"


def test_an_endorsement_key_cannot_certify_another(root: Authority) -> None:
    holder = Authority("ek", make.new_key(), der=b"unused")
    leaf = root.issue(holder.key)

    assert reason_of(holder.issue(make.new_key(), subject="ek 2"), root.der, chain=(leaf,)) == "untrusted"


def test_a_path_length_is_obeyed(root: Authority) -> None:
    last = root.below("last", extensions=make.authority_extensions(path_length=0))
    beyond = last.below("beyond")

    assert reason_of(beyond.issue(make.new_key()), root.der, chain=(last.der, beyond.der)) == "untrusted"
    verify(last.issue(make.new_key()), root.der, chain=(last.der,))


def test_authorities_that_certify_each_other_end_nowhere(root: Authority) -> None:
    one, two = make.new_key(), make.new_key()
    first = Authority("two", two, der=b"unused").issue(one, subject="one", extensions=make.authority_extensions())
    second = Authority("one", one, der=b"unused").issue(two, subject="two", extensions=make.authority_extensions())
    ek = Authority("one", one, der=first).issue(make.new_key())

    assert reason_of(ek, root.der, chain=(first, second)) == "untrusted"


def test_a_chain_of_more_than_eight_authorities_is_refused(root: Authority) -> None:
    chain = [root]
    for number in range(12):
        chain.append(chain[-1].below(f"{number}"))
    ek = chain[-1].issue(make.new_key())

    assert reason_of(ek, root.der, chain=tuple(authority.der for authority in chain[1:])) == "untrusted"


# ---- when ------------------------------------------------------------------------------------------------------


def test_a_certificate_counts_only_within_its_validity(root: Authority) -> None:
    der = root.issue(make.new_key(), valid=(NOW - DAY / 2, NOW + DAY / 2))

    verify(der, root.der)
    assert reason_of(der, root.der, now=NOW + DAY * 0.6) == "expired"
    assert reason_of(der, root.der, now=NOW - DAY * 0.6) == "expired"


def test_an_expired_authority_certifies_nothing(root: Authority) -> None:
    old = root.below("old", valid=(NOW - 3 * DAY, NOW - 2 * DAY))
    ek = old.issue(make.new_key())

    assert reason_of(ek, root.der, chain=(old.der,)) == "expired"
    assert reason_of(ek, old.der) == "expired"


# ---- for what --------------------------------------------------------------------------------------------------


def test_an_authority_is_no_endorsement_key(root: Authority) -> None:
    middle = root.below("middle")

    constraints = make.Extension(x509.BasicConstraints(ca=True, path_length=None))
    without_usage = root.issue(make.new_key(), extensions=[constraints])

    assert reason_of(middle.der, root.der) == "key_attributes"
    assert reason_of(root.der, root.der) == "key_attributes"
    assert reason_of(without_usage, root.der) == "key_attributes"


def test_a_key_certified_for_something_else_is_no_endorsement_key(root: Authority) -> None:
    def reason(**how) -> str:
        return reason_of(root.issue(make.new_key(), extensions=make.ek_extensions(**how)), root.der)

    assert reason(extended=make.AIK_CERTIFICATE_USAGE) == "key_attributes"
    assert reason(extended=make.SERVER_USAGE) == "key_attributes"
    assert reason(usage=make.SIGN) == "key_attributes"
    assert reason(usage=(*make.AGREE, "key_cert_sign")) == "key_attributes"


def test_usages_may_be_left_out_as_some_makers_do(root: Authority) -> None:
    verify(root.issue(make.new_key(), extensions=[]), root.der)
    verify(root.issue(make.new_key(), extensions=make.ek_extensions()[:2]), root.der)


def test_the_detail_names_the_missing_authority(root: Authority) -> None:
    with pytest.raises(EnrolmentError, match=r'unable to get local issuer certificate .* issuer "CN=lost"'):
        verify(Authority("lost").issue(make.new_key()), root.der)


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
