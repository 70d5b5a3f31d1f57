"""The X.509 certificates that tccp issues itself: the coordinator's authority, its TLS key, nodes, leases.

All keys are P-256: TLS handshakes with them are the cheapest that OpenSSL has. A certificate carries a role in its
subject alternative name, so that no lease can stand in for the coordinator.

The *door key* signs the certificate that a node shows before it is admitted. Every node of a perimeter has it, and
it proves nothing but that its holder was given the trust file; what a node is, its TPM proves afterwards.
"""

import datetime as dt
import os
from dataclasses import dataclass, field
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_YEARS = 20
# Clocks of two hosts differ; a certificate that begins in the peer's future would be refused.
CLOCK_SKEW = dt.timedelta(minutes=5)
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
    """The public key in a DER certificate, DER SubjectPublicKeyInfo."""
    return (
        x509.load_der_x509_certificate(certificate)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


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
        self._certificate = x509.load_pem_x509_certificate(pair.certificate)
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
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + dt.timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(issues=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return KeyPair(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=key_pem(key))

    def issue(
        self, spki: bytes, host: str, *, not_before: dt.datetime, not_after: dt.datetime, server: bool, client: bool
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
            .serial_number(int.from_bytes(os.urandom(16), "big") >> 1)
            .not_valid_before(not_before - CLOCK_SKEW)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(_key_usage(issues=False), critical=True)
            .add_extension(self._key_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.DER)


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


def node_host(name: str) -> str:
    """The DNS name in a node's lease certificate."""
    return f"{name}.node.tccp.internal"
