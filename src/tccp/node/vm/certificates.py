"""Certifying the keys of a vTPM with the node's signing key; what they say: `tccp.attestation.vtpm_certificate`."""

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from tccp.attestation.vtpm_certificate import PURPOSES, VTPM_CLAIM, KeyRole, VtpmClaim

# What TCG's EK Credential Profile 2.5 wants to know of a TPM: 2.23.133.2.1, .2 and .3.
_TPM_ATTRIBUTES = (("2.23.133.2.1", "id:54434350"), ("2.23.133.2.2", "tccp vTPM"), ("2.23.133.2.3", "id:00000001"))
# They hold as long as the identity that signed them is believed in, not until a date (RFC 5280, 4.1.2.5).
_NEVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_CLOCK_SKEW = dt.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class VtpmKeys:
    """The public keys of one vTPM, DER SubjectPublicKeyInfo."""

    ek_spki: bytes
    ak_spki: bytes


@dataclass(frozen=True, slots=True)
class VtpmCertificates:
    """The certificates of one vTPM, DER."""

    ek_certificate: bytes
    ak_certificate: bytes

    @property
    def keys(self) -> VtpmKeys:
        """What they certify."""
        return VtpmKeys(*(_key_of(certificate) for certificate in (self.ek_certificate, self.ak_certificate)))


@dataclass(frozen=True, slots=True)
class VtpmIssuer:
    """The node as one who certifies: its name, its signing key, and the statement that the key stands in."""

    node: str
    signing_key: SigningKey = field(repr=False)
    statement: bytes

    def claim(self, vm_id: bytes, images: tuple[tuple[str, bytes], ...]) -> VtpmClaim:
        """What we say of the vTPM of *vm_id*."""
        return VtpmClaim(vm_id, hashlib.sha256(self.statement).digest(), images)

    def certify_keys(self, keys: VtpmKeys, claim: VtpmClaim) -> VtpmCertificates:
        """Certificates, as of now, for both keys of a vTPM.

        Raises:
            ValueError: They are no keys of a vTPM.
        """
        now = dt.datetime.now(dt.UTC)
        return VtpmCertificates(
            self.certify("ek", keys.ek_spki, claim, now=now), self.certify("ak", keys.ak_spki, claim, now=now)
        )

    def certify(self, role: KeyRole, spki: bytes, claim: VtpmClaim, *, now: dt.datetime) -> bytes:
        """The certificate of a key, P-256, DER."""
        try:
            key = serialization.load_der_public_key(spki)
        except UnsupportedAlgorithm as problem:
            raise ValueError(str(problem)) from problem
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError("the keys of a vTPM are on an elliptic curve")  # noqa: TRY004 - a value, not its type
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.node)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"vTPM {role.upper()} {claim.vm_id.hex()}")])
        maker = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in _TPM_ATTRIBUTES])
        names = [
            x509.DirectoryName(maker),
            x509.UniformResourceIdentifier(f"urn:tccp:vm:{claim.vm_id.hex()}"),
        ]
        signs = role == "ak"
        usage = x509.KeyUsage(
            digital_signature=signs,
            key_agreement=not signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - _CLOCK_SKEW, _NEVER)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([PURPOSES[role]]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.UnrecognizedExtension(VTPM_CLAIM, claim.encode()), critical=False)
        )
        certificate = builder.sign(Ed25519PrivateKey.from_private_bytes(bytes(self.signing_key)), None)
        return certificate.public_bytes(serialization.Encoding.DER)


def _key_of(certificate: bytes) -> bytes:
    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
