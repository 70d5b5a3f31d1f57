"""Which certificates make a key an endorsement key: those of real makers, and those of an attacker."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from tccp.attestation.enrolment import EkAuthorities, verify_ek_certificate
from tccp.errors import EnrolmentError
from tests.attestation.verdicts import reason_of, verify
from tests.support import certificates as make
from tests.support.certificates import DAY, NOW, Authority


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


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


def test_authorities_of_one_name_are_told_apart_by_their_keys(root: Authority) -> None:
    old, new = Authority("rolled over"), Authority("rolled over")

    for issuer in (old, new):
        for order in ((old.der, new.der), (new.der, old.der)):
            verify(issuer.issue(make.new_key()), *order)


def test_intermediates_of_the_same_name_do_not_hide_the_right_one(root: Authority) -> None:
    middle = root.below("middle")
    others = tuple(Authority("middle").der for _ in range(15))
    ek = middle.issue(make.new_key())

    verify(ek, root.der, chain=(*others, middle.der))
    verify_ek_certificate(ek, others, authorities=EkAuthorities([root.der], [middle.der]), now=NOW)
    assert reason_of(ek, root.der, chain=others) == "untrusted"


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
