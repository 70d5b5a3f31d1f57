"""Asking for the verdict on an EK certificate, as the tests of certificates do."""

from datetime import datetime

import pytest

from tccp.attestation.enrolment import EkAuthorities, EkCertificate, verify_ek_certificate
from tccp.errors import EnrolmentError
from tests.support.certificates import NOW


def verify(
    certificate: bytes, *authorities: bytes, chain: tuple[bytes, ...] = (), now: datetime = NOW
) -> EkCertificate:
    """The certificate, verified against *authorities*."""
    return verify_ek_certificate(certificate, chain, authorities=EkAuthorities(authorities), now=now)


def reason_of(certificate: bytes, *authorities: bytes, chain: tuple[bytes, ...] = (), now: datetime = NOW) -> str:
    """Why the certificate is refused."""
    with pytest.raises(EnrolmentError) as refused:
        verify(certificate, *authorities, chain=chain, now=now)
    return refused.value.reason
