"""The X.509 certificates that tccp issues itself: the coordinator's authority, its TLS key, nodes, leases.

All keys are P-256: TLS handshakes with them are the cheapest that OpenSSL has. A certificate carries a role in its
subject alternative name, so that no lease can stand in for the coordinator.

The *door key* signs the certificate that a node shows before it is admitted. Every node of a perimeter has it, and
it proves nothing but that its holder was given the trust file; what a node is, its TPM proves afterwards.
"""

import datetime as dt
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tccp.errors import ProtocolError

AUTHORITY_YEARS = 20
# Clocks of two hosts differ; a certificate that begins in the peer's future would be refused.
CLOCK_SKEW_S = 300
COORDINATOR_HOST = "coordinator.tccp.internal"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A P-256 key with the certificate for it, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def spki_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half of *key*, DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki_of_certificate(certificate: bytes) -> bytes:
    """The public key in a DER certificate that a peer showed, DER SubjectPublicKeyInfo.

    Raises:
        ProtocolError: ``tls_certificate``: TLS has accepted it, and it is malformed all the same.
    """
    try:
        return _spki_of(_read(x509.load_der_x509_certificate, certificate))
    except ValueError as problem:
        raise ProtocolError("tls_certificate", str(problem)) from None


def spki_of_pem(certificate: bytes) -> bytes:
    """The public key in a PEM certificate of our own files, DER SubjectPublicKeyInfo.

    Raises:
        ValueError: It is not a certificate, or not one with a key of a kind that is known.
    """
    return _spki_of(certificate_of_pem(certificate))


def certificate_of_pem(certificate: bytes) -> x509.Certificate:
    """A PEM certificate of our own files.

    Raises:
        ValueError: It is not a certificate.
    """
    return _read(x509.load_pem_x509_certificate, certificate)


def _read(load: Callable[[bytes], x509.Certificate], certificate: bytes) -> x509.Certificate:
    try:
        return load(certificate)
    except x509.InvalidVersion as problem:  # to the library no ValueError; and OpenSSL takes it
        raise ValueError(str(problem)) from None


def _spki_of(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm as problem:
        raise ValueError(str(problem)) from None
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """*key* as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in *pem*.

    Raises:
        ValueError: Not such a key.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - the file is wrong, not our call
    return key


def fresh_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """A key that issues certificates, and its own self-signed certificate."""

    def __init__(self, pair: KeyPair) -> None:
        self._key = load_key(pair.key)
        self.certificate_pem = pair.certificate
        self._certificate = certificate_of_pem(pair.certificate)
        self._key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    @property
    def spki(self) -> bytes:
        """The authority's public key, DER SubjectPublicKeyInfo."""
        return spki_of_key(self._key)

    @staticmethod
    def create(common_name: str, *, now: dt.datetime) -> KeyPair:
        """A new authority."""
        key = fresh_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=CLOCK_SKEW_S))
            .not_valid_after(now + dt.timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(issues=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return KeyPair(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=key_pem(key))

    def issue(
        self,
        spki: bytes,
        host: str,
        *,
        not_before: dt.datetime,
        not_after: dt.datetime,
        server: bool,
        client: bool,
        serial: bytes | None = None,
    ) -> bytes:
        """A DER certificate for the public key *spki* under the DNS name *host*."""
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
        purposes += [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
        public_key = cast("ec.EllipticCurvePublicKey", serialization.load_der_public_key(spki))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(int.from_bytes(serial or b"\x40" + os.urandom(15), "big"))
            .not_valid_before(not_before - dt.timedelta(seconds=CLOCK_SKEW_S))
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(_key_usage(issues=False), critical=True)
            .add_extension(self._key_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.DER)

    def template(self, spki: bytes, host: str, *, server: bool, client: bool) -> "CertificateTemplate":
        """What issues one certificate after another for the same key and name."""
        certificate = self.issue(
            spki,
            host,
            not_before=dt.datetime.fromtimestamp(_PLACEHOLDER_BEGIN_S + CLOCK_SKEW_S, tz=dt.UTC),
            not_after=dt.datetime.fromtimestamp(_PLACEHOLDER_END_S, tz=dt.UTC),
            server=server,
            client=client,
            serial=_PLACEHOLDER_SERIAL,
        )
        return CertificateTemplate(self._key, x509.load_der_x509_certificate(certificate).tbs_certificate_bytes)


class CertificateTemplate:
    """Certificates that differ in serial number and dates only: the rest was encoded once.

    A lease is renewed thousands of times; building an X.509 certificate from its parts costs three times as much
    as the signature on it. The fields that change have a fixed size (RFC 5280, 4.1.2.2 and 4.1.2.5).
    """

    __slots__ = ("_key", "_parts")

    def __init__(self, key: ec.EllipticCurvePrivateKey, tbs: bytes) -> None:
        self._key = key
        begin, rest = tbs.split(_serial(_PLACEHOLDER_SERIAL))
        middle, end = rest.split(_utc_time(_PLACEHOLDER_BEGIN_S) + _utc_time(_PLACEHOLDER_END_S))
        self._parts = (begin, middle, end)

    def issue(self, *, not_before_ms: int, not_after_ms: int) -> bytes:
        """A DER certificate with these dates (Unix milliseconds, the end rounded up to a second)."""
        begin, middle, end = self._parts
        not_before_s = not_before_ms // 1000 - CLOCK_SKEW_S
        not_after_s = -(-not_after_ms // 1000)
        # The first byte keeps the number positive and 16 bytes long.
        serial = _serial(b"\x40" + os.urandom(15))
        tbs = begin + serial + middle + _utc_time(not_before_s) + _utc_time(not_after_s) + end
        signature = self._key.sign(tbs, _SIGNATURE)
        body = tbs + _ECDSA_WITH_SHA256 + b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
        return b"\x30\x82" + len(body).to_bytes(2, "big") + body


_PLACEHOLDER_SERIAL = b"\x40" + bytes(range(1, 16))
_PLACEHOLDER_BEGIN_S, _PLACEHOLDER_END_S = 1_000_000_000, 1_111_111_111
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758, 3.2
_SIGNATURE = ec.ECDSA(hashes.SHA256())


def _serial(serial: bytes) -> bytes:
    return b"\x02\x10" + serial


@functools.lru_cache(maxsize=64)
def _utc_time(seconds: int) -> bytes:
    time = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    assert time.year < 2050, "RFC 5280 wants GeneralizedTime from then on"
    return b"\x17\x0d" + time.strftime("%y%m%d%H%M%SZ").encode("ascii")


def _key_usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )


def pem_of(certificate: bytes) -> bytes:
    """A DER certificate as PEM."""
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def der_of_pem(certificate: bytes) -> bytes:
    """A PEM certificate of our own files as DER."""
    return x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)


def node_host(name: str) -> str:
    """The DNS name in a node's lease certificate."""
    return f"{name}.node.tccp.internal"
