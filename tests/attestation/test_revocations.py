"""EK certificates that their makers have taken back."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tccp.attestation.enrolment import EkAuthorities, verify_ek_certificate
from tccp.errors import EnrolmentError
from tests.support.certificates import (
    CERTIFY,
    DAY,
    NOW,
    Authority,
    Extension,
    PrivateKey,
    authority_extensions,
    key_usage,
    new_key,
    tpm_name,
    unknown,
)

ROOT = Authority()
BETWEEN = ROOT.below("between", serial=7)
EK = ROOT.issue(new_key(), serial=5)
EK_BELOW = BETWEEN.issue(new_key(), serial=6)


def verdict(
    certificate: bytes,
    *lists: bytes,
    chain: tuple[bytes, ...] = (BETWEEN.der,),
    trusted: tuple[bytes, ...] = (ROOT.der,),
    now: datetime = NOW,
) -> str:
    """Why *certificate* is refused; ``""`` when it is not."""
    try:
        verify_ek_certificate(certificate, chain, authorities=EkAuthorities(trusted, (), lists), now=now)
    except EnrolmentError as refused:
        return refused.reason
    return ""


def as_pem(*lists: bytes) -> bytes:
    return b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in lists)


def test_a_revoked_certificate_is_refused_and_without_the_list_it_would_not_be() -> None:
    assert verdict(EK, ROOT.revoke(4, 5)) == "certificate_revoked"
    assert verdict(EK) == ""


def test_a_revoked_intermediate_takes_all_below_it_with_it() -> None:
    assert verdict(EK_BELOW, ROOT.revoke(7)) == "certificate_revoked"
    assert verdict(EK_BELOW, BETWEEN.revoke(6)) == "certificate_revoked"
    assert verdict(EK_BELOW) == ""


def test_a_list_says_nothing_of_others_certificates() -> None:
    other = Authority("other")

    assert verdict(EK, ROOT.revoke(6), BETWEEN.revoke(5), other.revoke(5)) == ""
    assert verdict(EK_BELOW, ROOT.revoke(6), BETWEEN.revoke(7), other.revoke(6, 7)) == ""


@pytest.mark.parametrize("years", [-30, 30])
def test_a_list_counts_on_after_its_time_and_before(years: int) -> None:
    begin = NOW + timedelta(days=365 * years)
    assert verdict(EK, ROOT.revoke(5, valid=(begin, begin + DAY))) == "certificate_revoked"
    assert verdict(EK, ROOT.revoke(4, valid=(begin, begin + DAY))) == ""


@pytest.mark.parametrize("age", [timedelta(0), 30 * DAY], ids=["in date", "both old"])
def test_of_two_lists_of_one_issuer_the_one_counts_that_refuses(age: timedelta) -> None:
    old = ROOT.revoke(4, valid=(NOW - 3 * DAY - age, NOW - 2 * DAY - age))
    new = ROOT.revoke(4, 5, number=2, valid=(NOW - DAY - age, NOW + DAY - age))

    assert verdict(EK, old, new) == verdict(EK, new, old) == "certificate_revoked"
    assert verdict(EK, old) == ""


def test_an_older_list_that_is_in_date_does_not_hide_a_newer_one_that_is_not() -> None:
    """libcrypto, left to choose, takes the one that is in date (RFC 5280, 6.3.3 has no two lists of one scope)."""
    lasting = ROOT.revoke(4, valid=(NOW - 9 * DAY, NOW + 9 * DAY))
    newer = ROOT.revoke(4, 5, number=2, valid=(NOW - 3 * DAY, NOW - DAY))

    assert verdict(EK, lasting, newer) == verdict(EK, newer, lasting) == "certificate_revoked"
    assert verdict(EK, lasting) == ""


def test_a_list_that_its_issuer_has_not_signed_vouches_for_nobody() -> None:
    assert verdict(EK, ROOT.revoke(by=new_key())) == "untrusted"


def key_named(key: PrivateKey) -> tuple[Extension, Extension]:
    """By which a certificate of *key* says so, and by which a list says that *key* signed it."""
    name = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return Extension(name), Extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(name))


def test_a_list_by_another_key_of_the_same_name_is_no_matter_where_it_says_so() -> None:
    """Makers roll their keys over and keep their names: each key has a list of its own."""
    keys = old, new = new_key(), new_key()
    of_old, of_new = (key_named(key) for key in keys)
    maker = ROOT.below("maker", key=new, extensions=[*authority_extensions(), of_new[0]], serial=9)
    ek = maker.issue(new_key(), serial=5)

    def said(list_: bytes) -> str:
        return verdict(ek, list_, chain=(maker.der,))

    assert said(maker.revoke(5, by=old, extensions=[of_old[1]])) == ""
    assert said(maker.revoke(5, extensions=[of_new[1]])) == "certificate_revoked"
    assert said(maker.revoke(by=old)) == said(maker.revoke(by=old, extensions=[of_new[1]])) == "untrusted"


UNKNOWN = unknown("1.3.6.1.4.1.4711.1", critical=True)
HARMLESS = unknown("1.3.6.1.4.1.4711.1", critical=False)
ELSEWHERE = [x509.UniformResourceIdentifier("http://crl.test/1")]


def part(**what: Any) -> Extension:
    """An issuing distribution point: what the list is about."""
    flags = dict.fromkeys(
        ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False
    )
    empty: dict[str, Any] = {"full_name": None, "relative_name": None, "only_some_reasons": None}
    return Extension(x509.IssuingDistributionPoint(**(empty | flags | what)), critical=True)


@pytest.mark.parametrize(
    "list_",
    [
        ROOT.revoke(4, extensions=[Extension(x509.DeltaCRLIndicator(1), critical=True)]),
        ROOT.revoke(4, extensions=[Extension(x509.DeltaCRLIndicator(1))]),
        ROOT.revoke(4, extensions=[part(indirect_crl=True)]),
        ROOT.revoke(4, extensions=[part(only_contains_attribute_certs=True)]),
        ROOT.revoke(4, extensions=[UNKNOWN]),
        ROOT.revoke(4, entry_extensions=[UNKNOWN]),
        ROOT.revoke(4, entry_extensions=[Extension(x509.CertificateIssuer([tpm_name()]), critical=True)]),
        ROOT.revoke(4, entry_extensions=[Extension(x509.CertificateIssuer([tpm_name()]))]),
        ROOT.revoke(4, extensions=[unknown("2.5.29.28", critical=True)]),
    ],
    ids=[
        *("delta", "delta not critical", "indirect", "of attributes", "unknown", "unknown of an entry"),
        *("by others", "by others not critical", "no distribution point"),
    ],
)
def test_a_list_that_we_do_not_understand_is_not_taken(list_: bytes) -> None:
    for content in (list_, as_pem(ROOT.revoke(), list_)):
        with pytest.raises(EnrolmentError) as refused:
            EkAuthorities([ROOT.der], [], [content])
        assert refused.value.reason == "unsupported"


@pytest.mark.parametrize(
    "extension",
    [HARMLESS, part(only_contains_user_certs=True), part(only_contains_ca_certs=True), part(full_name=ELSEWHERE)],
    ids=["unknown", "of users", "of authorities", "of one place"],
)
def test_what_a_list_of_a_part_names_counts_wherever_the_certificate_points(extension: Extension) -> None:
    assert verdict(EK, ROOT.revoke(5, extensions=[extension])) == "certificate_revoked"
    assert verdict(EK, ROOT.revoke(4, extensions=[extension])) == ""


@pytest.mark.parametrize("reason", list(x509.ReasonFlags))
def test_no_reason_makes_a_certificate_less_revoked(reason: x509.ReasonFlags) -> None:
    if reason is x509.ReasonFlags.unspecified:
        listed = ROOT.revoke(5)
    else:
        listed = ROOT.revoke(5, entry_extensions=[Extension(x509.CRLReason(reason))])
    assert verdict(EK, listed) == "certificate_revoked"


def test_a_list_of_an_authority_that_may_sign_none_vouches_for_nobody() -> None:
    basic, _ = authority_extensions()
    mute = ROOT.below("mute", serial=8, extensions=[basic, Extension(key_usage("key_cert_sign"), critical=True)])
    ek = mute.issue(new_key())

    assert CERTIFY == ("key_cert_sign", "crl_sign")
    assert verdict(ek, mute.revoke(), chain=(mute.der,)) == "untrusted"
    assert verdict(ek, chain=(mute.der,)) == ""


def test_an_authority_is_trusted_by_itself_whatever_is_said_above_it() -> None:
    lists = (ROOT.revoke(7), ROOT.revoke(7, by=new_key()))

    for each in lists:
        assert verdict(EK_BELOW, each, trusted=(BETWEEN.der,)) == ""
    assert verdict(EK_BELOW, BETWEEN.revoke(6), trusted=(BETWEEN.der,)) == "certificate_revoked"


def test_a_file_has_one_list_in_der_or_many_in_pem() -> None:
    assert verdict(EK_BELOW, as_pem(ROOT.revoke(4), BETWEEN.revoke(6))) == "certificate_revoked"
    assert len(EkAuthorities([ROOT.der], [], [ROOT.revoke(4)])) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "malformed"),
        (b"hello", "malformed"),
        (ROOT.der, "malformed"),
        (ROOT.revoke(4)[:-1], "malformed"),
        (ROOT.revoke(4) + b"\0", "malformed"),
        (as_pem(ROOT.revoke(4))[:-40], "malformed"),
        (as_pem(ROOT.revoke(4)).replace(b"X509 CRL", b"CERTIFICATE"), "malformed"),
        (bytes([0x30]) * ((4 << 20) + 1), "too_large"),
        (as_pem(ROOT.revoke()) * 1_025, "too_large"),
    ],
    ids=["empty", "text", "certificate", "cut", "more behind", "PEM cut", "another PEM", "long", "many"],
)
def test_a_file_that_is_no_list_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(EnrolmentError) as refused:
        EkAuthorities([ROOT.der], [], [content])
    assert refused.value.reason == reason


def test_lists_are_old_when_the_first_of_them_has_been_replaced() -> None:
    day, week = (ROOT.revoke(valid=(NOW, NOW + days * DAY)) for days in (1, 7))

    assert not EkAuthorities([ROOT.der]).has_old_lists(NOW + 9_999 * DAY)
    authorities = EkAuthorities([], [], [week, as_pem(week, day)])
    assert not authorities.has_old_lists(NOW + DAY)
    assert authorities.has_old_lists(NOW + DAY + timedelta(seconds=1))
