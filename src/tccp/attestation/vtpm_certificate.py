"""Certificates of a vTPM's keys: which virtual machine the vTPM belongs to, what that booted from, which node says so.

    node's signing key (in the identity statement that the coordinator logged)  -- signs -->  EK and AK certificates

Both are X.509, signed with Ed25519. The claim stands in an extension of its own, `VTPM_CLAIM`, whose value is

    "tccp/v1/vtpm-claim" 00 || vm_id[16] || SHA-256(identity statement)[32] || { u8 length of role, role, root[32] }*

with a role in lower case (kernel, initrd, disk, data) and the root of that sealed image, in the order of the machine.
"""

import hashlib
import re
import warnings
from dataclasses import InitVar, dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.utils import CryptographyDeprecationWarning

from tccp.errors import EnrolmentError

# Of the arc 2.25, which anybody may use with a random UUID.
VTPM_CLAIM = x509.ObjectIdentifier("2.25.252418731064290911478325176098435014517")
EK_PURPOSE = x509.ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
AK_PURPOSE = x509.ObjectIdentifier("2.23.133.8.3")  # tcg-kp-AIKCertificate
PURPOSES = {"ek": EK_PURPOSE, "ak": AK_PURPOSE}
CERTIFICATE_BYTES_MAX = 4096
IMAGES_MAX = 16
DOMAIN = b"tccp/v1/vtpm-claim\0"
_ROLE = re.compile(rb"[a-z]{1,16}")
# AlgorithmIdentifier of Ed25519 (RFC 8410, 3), and the head of a BIT STRING of 64 bytes.
_ED25519_SIGNATURE = bytes.fromhex("300506032b6570034100")
_REFUSALS_OF_X509 = (
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    CryptographyDeprecationWarning,
)
_PROVED = object()

KeyRole = Literal["ek", "ak"]


@dataclass(frozen=True, slots=True)
class VtpmClaim:
    """What a node says of a vTPM."""

    vm_id: bytes
    statement_sha256: bytes
    images: tuple[tuple[str, bytes], ...]

    def encode(self) -> bytes:
        """The value of the extension."""
        parts = [bytes([len(role)]) + role.encode("ascii") + root for role, root in self.images]
        return DOMAIN + self.vm_id + self.statement_sha256 + b"".join(parts)


def decode_claim(value: bytes) -> VtpmClaim:
    """The claim in an extension; believe it only after the certificate was verified.

    Raises:
        EnrolmentError: ``malformed``.
    """
    fixed = len(DOMAIN) + 16 + 32
    if len(value) < fixed or not value.startswith(DOMAIN):
        raise EnrolmentError("malformed", "no claim about a vTPM")
    vm_id, statement = value[len(DOMAIN) : len(DOMAIN) + 16], value[fixed - 32 : fixed]
    images: list[tuple[str, bytes]] = []
    at = fixed
    while at < len(value):
        role = value[at + 1 : at + 1 + value[at]]
        root = value[at + 1 + len(role) : at + 33 + len(role)]
        if not _ROLE.fullmatch(role) or len(root) != 32 or len(images) == IMAGES_MAX:
            raise EnrolmentError("malformed", "the images of a claim about a vTPM")
        images.append((role.decode("ascii"), root))
        at += 33 + len(role)
    return VtpmClaim(vm_id, statement, tuple(images))


@dataclass(frozen=True, slots=True)
class VtpmKey:
    """A key of a vTPM that a node has certified. Only `verify_vtpm_certificate` makes one."""

    spki: bytes
    claim: VtpmClaim
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse to be made by anything else."""
        if proof is not _PROVED:
            raise TypeError("only verify_vtpm_certificate makes a VtpmKey")


def verify_vtpm_certificate(certificate: bytes, role: KeyRole, *, statement: bytes, signing_key: bytes) -> VtpmKey:
    """Check that the node with *signing_key* has certified this key of a vTPM, under this very identity.

    Args:
        certificate: DER.
        role: Which of the vTPM's keys it must be about; the one cannot stand in for the other.
        statement: The node's identity statement. The caller knows from the coordinator's log that the node was
            admitted with it; this function cannot tell.
        signing_key: The Ed25519 key in that statement, 32 bytes.

    Raises:
        EnrolmentError: ``malformed``, ``too_large``, ``signature`` (of another node), ``key_attributes`` (of another
            role), ``another_identity`` (of another boot of the node).
    """
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise EnrolmentError("too_large", f"a certificate of {len(certificate)} bytes")
    try:
        parsed = _parse(certificate)
        Ed25519PublicKey.from_public_bytes(signing_key).verify(parsed.signature, parsed.tbs_certificate_bytes)
        purposes = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        claimed = parsed.extensions.get_extension_for_oid(VTPM_CLAIM).value
        spki = parsed.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except InvalidSignature:
        raise EnrolmentError("signature", "the certificate is not signed by the node") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, *_REFUSALS_OF_X509) as problem:
        raise EnrolmentError("malformed", f"no certificate of a vTPM: {type(problem).__name__}") from None
    if list(purposes) != [PURPOSES[role]]:
        raise EnrolmentError("key_attributes", f"a certificate of another purpose than that of an {role.upper()}")
    assert isinstance(claimed, x509.UnrecognizedExtension)
    claim = decode_claim(claimed.value)
    if claim.statement_sha256 != hashlib.sha256(statement).digest():
        raise EnrolmentError("another_identity", "certified under another identity of the node")
    return VtpmKey(spki=spki, claim=claim, proof=_PROVED)


def _parse(certificate: bytes) -> x509.Certificate:
    """What the library only warns of (a serial number below one), we never make: refuse it.

    Nor does it look at what stands around the signature, which covers none of it: the algorithm, a second time, and
    how many bits are unused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        parsed = x509.load_der_x509_certificate(certificate)
    if not certificate.endswith(_ED25519_SIGNATURE + parsed.signature):
        raise ValueError("another algorithm, or no whole number of bytes")
    return parsed
