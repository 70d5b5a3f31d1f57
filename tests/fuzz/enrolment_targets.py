"""Fuzz targets for what an operator has fetched from the makers of TPMs: lists of certificates that they took back."""

import functools

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tccp.attestation.enrolment import EkAuthorities, verify_ek_certificate
from tccp.errors import EnrolmentError
from tests.support.certificates import NOW, Authority, Extension, unknown

SERIAL = 5


@functools.cache
def _makers() -> tuple[Authority, Authority, bytes]:
    """One who publishes lists, one who publishes none, and an EK of the latter's."""
    makers = [Authority(name, ec.derive_private_key(number, ec.SECP256R1())) for number, name in enumerate("ab", 71)]
    return makers[0], makers[1], makers[1].issue(ec.derive_private_key(70, ec.SECP256R1()), serial=SERIAL)


def feed_revocations(data: bytes) -> bool:
    """A file of lists that is taken is taken twice, helps nobody who is not trusted, and unsigned it revokes nobody."""
    _, other, ek = _makers()
    try:
        once = EkAuthorities([other.der], [], [data])
    except EnrolmentError:
        return False
    twice = EkAuthorities([], [], [data, data])
    assert once.has_old_lists(NOW) == twice.has_old_lists(NOW)
    assert (_refused(ek, twice), _refused(ek, once)) in {("untrusted", ""), ("untrusted", "untrusted")}
    return True


def _refused(ek: bytes, authorities: EkAuthorities) -> str:
    try:
        verify_ek_certificate(ek, (), authorities=authorities, now=NOW)
    except EnrolmentError as refused:
        return refused.reason
    return ""


def revocations() -> list[bytes]:
    """In DER and in PEM; with everything in them that is understood."""
    maker, _, _ = _makers()
    key = x509.AuthorityKeyIdentifier.from_issuer_public_key(maker.key.public_key())
    about = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier("http://crl.test/1")],
        relative_name=None,
        only_contains_user_certs=True,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    lists = [
        maker.revoke(),
        maker.revoke(4, SERIAL, 1 << 150),
        maker.revoke(
            SERIAL,
            extensions=[Extension(key), Extension(about, critical=True), unknown("1.2.3", critical=False)],
            entry_extensions=[Extension(x509.CRLReason(x509.ReasonFlags.remove_from_crl))],
        ),
    ]
    return [*lists, b"".join(x509.load_der_x509_crl(each).public_bytes(Encoding.PEM) for each in lists)]
