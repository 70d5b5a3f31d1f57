"""Certificates that a test needs and no honest maker issues: any usage, any time, any algorithm, any extension."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)

EK_CERTIFICATE_USAGE = ObjectIdentifier("2.23.133.8.1")
AIK_CERTIFICATE_USAGE = ObjectIdentifier("2.23.133.8.3")
SERVER_USAGE = ExtendedKeyUsageOID.SERVER_AUTH

SHA1_WITH_RSA = bytes.fromhex("300d06092a864886f70d0101050500")
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
RSAES_OAEP = bytes.fromhex("300d06092a864886f70d0101070500")
RSASSA_PSS = bytes.fromhex("300b06092a864886f70d01010a")

ENCIPHER = ("key_encipherment",)
AGREE = ("key_agreement",)
SIGN = ("digital_signature",)
CERTIFY = ("key_cert_sign", "crl_sign")


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_usage(*names: str) -> x509.KeyUsage:
    """The extension with exactly *names* set."""
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in names for name in every})


def tpm_name(manufacturer: str = "id:54434350", model: str = "test", version: str = "id:0001") -> x509.GeneralName:
    """The directory name by which a maker says which TPM it is."""
    values = {"2.23.133.2.1": manufacturer, "2.23.133.2.2": model, "2.23.133.2.3": version}
    return x509.DirectoryName(
        x509.Name([x509.NameAttribute(ObjectIdentifier(oid), value) for oid, value in values.items()])
    )


@dataclass(frozen=True)
class Extension:
    """An extension that the library need not know."""

    value: x509.ExtensionType
    critical: bool = False


def unknown(oid: str, der: bytes = b"\x05\x00", *, critical: bool) -> Extension:
    """An extension with any identifier and content."""
    return Extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), der), critical)


def ek_extensions(usage: Sequence[str] = AGREE, extended: ObjectIdentifier = EK_CERTIFICATE_USAGE) -> list[Extension]:
    """Those of an honest EK certificate."""
    return [
        Extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
        Extension(key_usage(*usage), critical=True),
        Extension(x509.ExtendedKeyUsage([extended])),
        Extension(x509.SubjectAlternativeName([tpm_name()]), critical=True),
    ]


def authority_extensions(path_length: int | None = None) -> list[Extension]:
    """Those of an authority; no key identifiers, as with some makers."""
    return [
        Extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True),
        Extension(key_usage(*CERTIFY), critical=True),
    ]


@dataclass
class Authority:
    """A key and its certificate that can issue others; a root unless another authority issued it."""

    name: str = "root"
    key: PrivateKey = field(default_factory=new_key)
    der: bytes = b""

    def __post_init__(self) -> None:
        """Issue one's own certificate unless there is one."""
        if not self.der:
            self.der = self.issue(self.key, subject=self.name, extensions=authority_extensions())

    def below(self, name: str, *, key: PrivateKey | None = None, **how: Any) -> "Authority":
        """An intermediate authority that this one issues."""
        key = key or new_key()
        how.setdefault("extensions", authority_extensions())
        return Authority(name, key, self.issue(key, subject=name, **how))

    def issue(
        self,
        key: PrivateKey,
        *,
        subject: str = "ek",
        extensions: Sequence[Extension] | None = None,
        serial: int = 2,
        valid: tuple[datetime, datetime] = (NOW - DAY, NOW + DAY),
        padding: Any = None,
        hash_algorithm: Any = None,
    ) -> bytes:
        """A certificate of *key*, DER; an EK's unless *extensions* say otherwise."""
        builder = x509.CertificateBuilder(
            issuer_name=_name(self.name),
            subject_name=_name(subject),
            public_key=key.public_key(),
            serial_number=serial,
            not_valid_before=valid[0],
            not_valid_after=valid[1],
        )
        for extension in ek_extensions() if extensions is None else extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        certificate = builder.sign(self.key, hash_algorithm or hashes.SHA256(), rsa_padding=padding)
        return certificate.public_bytes(Encoding.DER)

    def revoke(
        self,
        *serials: int,
        number: int = 1,
        valid: tuple[datetime, datetime] = (NOW - DAY, NOW + DAY),
        by: PrivateKey | None = None,
        extensions: Sequence[Extension] = (),
        entry_extensions: Sequence[Extension] = (),
    ) -> bytes:
        """A CRL of this authority with *serials* in it, DER.

        Args:
            valid: When it was made, and when the next one is to be.
            by: Who signs it, if not the authority.
            entry_extensions: Of each serial.
        """
        builder = x509.CertificateRevocationListBuilder(_name(self.name), last_update=valid[0], next_update=valid[1])
        for extension in (Extension(x509.CRLNumber(number)), *extensions):
            builder = builder.add_extension(extension.value, extension.critical)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, NOW - DAY)
            for extension in entry_extensions:
                entry = entry.add_extension(extension.value, extension.critical)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(by or self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def reissue(self, der: bytes, elements: dict[int, bytes]) -> bytes:
        """*der* with elements of its to-be-signed part replaced, signed anew: what no library would issue.

        Args:
            der: A certificate that this authority, with an RSA key, issued by SHA-256.
            elements: Position in TBSCertificate (1 serial, 2 algorithm, 6 key) -> DER.
        """
        assert isinstance(self.key, rsa.RSAPrivateKey)
        tbs, algorithm, _ = _elements(der)
        parts = _elements(tbs)
        for position, element in elements.items():
            parts[position] = element
        tbs = tlv(0x30, b"".join(parts))
        weak = parts[2] == SHA1_WITH_RSA
        weak_hash = hashes.SHA1()  # noqa: S303 - what the test is about
        signature = self.key.sign(tbs, PKCS1v15(), weak_hash if weak else hashes.SHA256())
        return tlv(0x30, tbs + (SHA1_WITH_RSA if weak else algorithm) + tlv(0x03, b"\0" + signature))


def spki_with(key: PrivateKey, algorithm: bytes) -> bytes:
    """The SPKI of *key* under another algorithm identifier."""
    _, bits = _elements(spki(key))
    return tlv(0x30, algorithm + bits)


def spki(key: PrivateKey) -> bytes:
    """The SPKI of *key*, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(*certificates: bytes) -> bytes:
    """*certificates*, DER, as one PEM file."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)


def tlv(tag: int, value: bytes) -> bytes:
    """One DER element."""
    size = len(value)
    if size < 0x80:
        return bytes([tag, size]) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + value


def _elements(der: bytes) -> list[bytes]:
    """The elements inside the DER element *der*."""
    position, _ = _content(der, 0)
    found = []
    while position < len(der):
        start, size = _content(der, position)
        found.append(der[position : start + size])
        position = start + size
    return found


def _content(der: bytes, position: int) -> tuple[int, int]:
    """Where the content of the element at *position* begins, and its size."""
    size = der[position + 1]
    if size < 0x80:
        return position + 2, size
    count = size & 0x7F
    return position + 2 + count, int.from_bytes(der[position + 2 : position + 2 + count], "big")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
