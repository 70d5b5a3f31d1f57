"""Certificates that OpenSSL takes and stricter readers do not, made by somebody who has the door key of a perimeter."""

import datetime as dt
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tccp.transport.certificates import KeyPair
from tests.support.certificates import tlv

VERSION_3, VERSION_5 = bytes.fromhex("a003020102"), bytes.fromhex("a003020104")
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def certificate_behind_the_door(
    door: KeyPair, key: PrivateKey, *, not_after: dt.datetime | None = None, client: bool = True
) -> x509.Certificate:
    """A client certificate for *key*; its subject has one name of two parts."""
    now = dt.datetime.now(tz=dt.UTC)
    issuer = x509.load_pem_x509_certificate(door.certificate)
    subject = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.LOCALITY_NAME, "a"), x509.NameAttribute(NameOID.SURNAME, "b")]
    )
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([subject]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(not_after or now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("alpha.node.tccp.internal")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(door_key(door), hashes.SHA256())
    )


def with_its_subject_out_of_order(certificate: x509.Certificate, door: KeyPair) -> bytes:
    """The same certificate with the two parts of its subject the wrong way round (X.690, 11.6 sorts a SET OF), DER."""
    body = certificate.tbs_certificate_bytes
    subject = certificate.subject.public_bytes()
    parts = subject[4:]  # behind the headers of SEQUENCE and SET
    half = len(parts) // 2
    return _signed_with(body, subject, subject[:4] + parts[half:] + parts[:half], door)


def with_a_version_that_does_not_exist(certificate: x509.Certificate, door: KeyPair) -> bytes:
    """The same certificate as of X.509 version 5, DER; the last one is 3."""
    return _signed_with(certificate.tbs_certificate_bytes, VERSION_3, VERSION_5, door)


def _signed_with(body: bytes, part: bytes, instead: bytes, door: KeyPair) -> bytes:
    changed = body.replace(part, instead)
    assert changed != body
    signature = door_key(door).sign(changed, ec.ECDSA(hashes.SHA256()))
    return tlv(0x30, changed + ECDSA_WITH_SHA256 + tlv(0x03, b"\0" + signature))


def as_pair(certificate: bytes, key: PrivateKey) -> KeyPair:
    """What a TLS context takes; *certificate* is DER."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyPair(certificate=ssl.DER_cert_to_PEM_cert(certificate).encode(), key=pem)


def door_key(door: KeyPair) -> ec.EllipticCurvePrivateKey:
    """The key that everybody has who was given the trust file."""
    key = serialization.load_pem_private_key(door.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
