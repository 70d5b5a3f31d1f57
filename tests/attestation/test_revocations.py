"""EK certificates that their makers have taken back."""

from datetime import datetime, timedelta

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
    authority_extensions,
    key_usage,
    new_key,
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


def test_the_newer_of_two_lists_counts() -> None:
    old = ROOT.revoke(4, valid=(NOW - 3 * DAY, NOW - 2 * DAY))
    new = ROOT.revoke(4, 5, number=2)
    assert verdict(EK, old, new) == verdict(EK, new, old) == "certificate_revoked"


def test_a_list_that_its_issuer_has_not_signed_vouches_for_nobody() -> None:
    assert verdict(EK, ROOT.revoke(by=new_key())) == "untrusted"


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
