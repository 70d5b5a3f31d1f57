"""An attestation key in the hands of an attacker: it signs whatever bytes one likes, which no TPM would.

forger = Forger("p256", "ecdsa", "sha256")
quote = forger.quote(Attest(extra_data=nonce, selections=((0x000B, b"\\x01\\0\\0"),), pcr_digest=digest))
"""

import dataclasses
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ALGORITHMS = {
    "rsa": 0x0001,
    "sha1": 0x0004,
    "sha256": 0x000B,
    "sha384": 0x000C,
    "sha512": 0x000D,
    "null": 0x0010,
    "rsassa": 0x0014,
    "rsapss": 0x0016,
    "ecdsa": 0x0018,
    "ecc": 0x0023,
}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - what a TPM of today still offers
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
CURVES = {"p256": (0x0003, ec.SECP256R1(), 32), "p384": (0x0004, ec.SECP384R1(), 48)}
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
AK_ATTRIBUTES = 0x00050072


def tpm2b(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


@dataclass(frozen=True)
class Attest:
    """TPMS_ATTEST of a quote, field by field, each as wrong as one likes."""

    extra_data: bytes
    selections: tuple[tuple[int, bytes], ...]
    pcr_digest: bytes
    magic: int = 0xFF544347
    type: int = 0x8018
    qualified_signer: bytes = b"\x00\x0b" + bytes(32)
    clock_ms: int = 123_456_789
    reset_count: int = 7
    restart_count: int = 2
    safe: int = 1
    firmware_version: int = 0x2020_0312_0012_0003
    left_over: bytes = b""

    def encode(self) -> bytes:
        selections = b"".join(struct.pack(">HB", bank, len(mask)) + mask for bank, mask in self.selections)
        return (
            struct.pack(">IH", self.magic, self.type)
            + tpm2b(self.qualified_signer)
            + tpm2b(self.extra_data)
            + struct.pack(
                ">QIIBQ", self.clock_ms, self.reset_count, self.restart_count, self.safe, self.firmware_version
            )
            + struct.pack(">I", len(self.selections))
            + selections
            + tpm2b(self.pcr_digest)
            + self.left_over
        )

    def but(self, **changes: object) -> "Attest":
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@cache
def private_key(kind: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key(CURVES[kind][1])


@dataclass(frozen=True)
class Forger:
    """One key, and the scheme in which it signs. The key of a kind is made once."""

    kind: str
    scheme: str
    hash_name: str
    salt: int | Literal["digest", "max"] = "digest"

    # Three of the quickest, and every kind, scheme and hash at least once.
    EACH: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("rsa2048", "rsassa", "sha256"),
        ("p256", "ecdsa", "sha256"),
        ("p384", "ecdsa", "sha384"),
        ("rsa2048", "rsapss", "sha256"),
        ("rsa2048", "rsassa", "sha384"),
        ("rsa2048", "rsapss", "sha512"),
        ("rsa3072", "rsassa", "sha512"),
        ("rsa3072", "rsapss", "sha384"),
        ("rsa4096", "rsassa", "sha256"),
        ("rsa4096", "rsapss", "sha512"),
        ("p256", "ecdsa", "sha384"),
        ("p256", "ecdsa", "sha512"),
        ("p384", "ecdsa", "sha256"),
        ("p384", "ecdsa", "sha512"),
    )

    @property
    def public_key(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        return private_key(self.kind).public_key()

    def tpm_public(self, *, attributes: int = AK_ATTRIBUTES, hash_name: str = "") -> bytes:
        """TPMT_PUBLIC, as a TPM would show it."""
        family = "rsa" if self.kind.startswith("rsa") else "ecc"
        head = struct.pack(">HHI", ALGORITHMS[family], ALGORITHMS["sha256"], attributes) + tpm2b(b"")
        scheme = (ALGORITHMS["null"], ALGORITHMS[self.scheme], ALGORITHMS[hash_name or self.hash_name])
        parameters = struct.pack(">HHH", *scheme)
        key = self.public_key
        if isinstance(key, rsa.RSAPublicKey):
            modulus = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
            return head + parameters + struct.pack(">HI", key.key_size, 0) + tpm2b(modulus)
        curve, _, size = CURVES[self.kind]
        point = key.public_numbers()
        coordinates = tpm2b(point.x.to_bytes(size, "big")) + tpm2b(point.y.to_bytes(size, "big"))
        return head + parameters + struct.pack(">HH", curve, ALGORITHMS["null"]) + coordinates

    def sign(self, attest: bytes) -> bytes:
        """TPMT_SIGNATURE over *attest*."""
        algorithm = HASHES[self.hash_name]
        key = private_key(self.kind)
        head = struct.pack(">HH", ALGORITHMS[self.scheme], ALGORITHMS[self.hash_name])
        if isinstance(key, ec.EllipticCurvePrivateKey):
            size = CURVES[self.kind][2]
            scalars = decode_dss_signature(key.sign(attest, ec.ECDSA(algorithm)))
            return head + b"".join(tpm2b(scalar.to_bytes(size, "big")) for scalar in scalars)
        if self.scheme == "rsassa":
            return head + tpm2b(key.sign(attest, padding.PKCS1v15(), algorithm))
        names: dict[str, Any] = {"digest": padding.PSS.DIGEST_LENGTH, "max": padding.PSS.MAX_LENGTH}
        salt = self.salt if isinstance(self.salt, int) else names[self.salt]
        return head + tpm2b(key.sign(attest, padding.PSS(padding.MGF1(algorithm), salt), algorithm))
