"""TPMT_PUBLIC of keys whose private half a test holds, and TPM2_ActivateCredential done with it.

Written from the specification (TPM 2.0 Library, Part 1, 11.4.10, 24, B.10.4, C.6.3; Part 2, 12.2.4), with
`cryptography` and not with the C core: the oracle for what the core makes.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

EK_ATTRIBUTES = 0x000300B2
AK_ATTRIBUTES = 0x00050072
ROLE_BITS = {
    "fixedTPM": 1 << 1,
    "fixedParent": 1 << 4,
    "sensitiveDataOrigin": 1 << 5,
    "restricted": 1 << 16,
    "decrypt": 1 << 17,
    "sign": 1 << 18,
}

HASH_IDS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
_RSA, _AES, _NULL, _RSASSA, _ECDSA, _ECC, _CFB = 0x0001, 0x0006, 0x0010, 0x0014, 0x0018, 0x0023, 0x0043
_CURVES = {"secp256r1": 0x0003, "secp384r1": 0x0004}
_HASHES = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}


def tpm2b(content: bytes) -> bytes:
    """*content* with its length before it."""
    return struct.pack(">H", len(content)) + content


def ek_area(
    key: PrivateKey, *, name_hash: str = "sha256", aes_bits: int = 128, attributes: int = EK_ATTRIBUTES
) -> bytes:
    """TPMT_PUBLIC of an endorsement key."""
    symmetric = struct.pack(">HHH", _AES, aes_bits, _CFB)
    return _area(key, HASH_IDS[name_hash], attributes, symmetric + struct.pack(">H", _NULL))


def ak_area(key: PrivateKey, *, name_hash: str = "sha256", attributes: int = AK_ATTRIBUTES) -> bytes:
    """TPMT_PUBLIC of an attestation key that signs by SHA-256."""
    scheme = _RSASSA if isinstance(key, rsa.RSAPrivateKey) else _ECDSA
    return _area(key, HASH_IDS[name_hash], attributes, struct.pack(">HHH", _NULL, scheme, HASH_IDS["sha256"]))


def with_attributes(area: bytes, attributes: int) -> bytes:
    """The same public area with other attributes."""
    return area[:4] + struct.pack(">I", attributes) + area[8:]


def attributes_of(area: bytes) -> int:
    """TPMA_OBJECT of a public area."""
    return int.from_bytes(area[4:8], "big")


def name_of(area: bytes) -> bytes:
    """nameAlg and the digest of the area."""
    name_hash = {number: name for name, number in HASH_IDS.items()}[int.from_bytes(area[2:4], "big")]
    return area[2:4] + hashlib.new(name_hash, area).digest()


def activate(
    key: PrivateKey,
    ak_name: bytes,
    id_object: bytes,
    encrypted_secret: bytes,
    *,
    name_hash: str = "sha256",
    aes_bits: int = 128,
) -> bytes:
    """What a TPM with the EK *key* answers while *ak_name* is loaded in it.

    Raises:
        ValueError: The credential is for another EK or another AK.
    """
    seed = _rsa_seed(key, encrypted_secret, name_hash) if isinstance(key, rsa.RSAPrivateKey) else None
    seed = seed or _ecc_seed(key, encrypted_secret, name_hash)
    size = int.from_bytes(id_object[:2], "big")
    integrity, encrypted = id_object[2 : 2 + size], id_object[2 + size :]
    bits = hashlib.new(name_hash).digest_size * 8
    hmac_key = _kdfa(name_hash, seed, b"INTEGRITY", b"", bits)
    if not hmac.compare_digest(hmac.digest(hmac_key, encrypted + ak_name, name_hash), integrity):
        raise ValueError("TPM_RC_INTEGRITY")
    aes_key = _kdfa(name_hash, seed, b"STORAGE", ak_name, aes_bits)
    plain = Cipher(algorithms.AES(aes_key), CFB(bytes(16))).decryptor().update(encrypted)
    if plain != tpm2b(plain[2:]):
        raise ValueError("TPM_RC_SIZE")
    return plain[2:]


def _area(key: PrivateKey, name_alg: int, attributes: int, middle: bytes) -> bytes:
    kind = _RSA if isinstance(key, rsa.RSAPrivateKey) else _ECC
    head = struct.pack(">HHI", kind, name_alg, attributes) + tpm2b(b"") + middle
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        return head + struct.pack(">HI", key.key_size, 0) + tpm2b(modulus.to_bytes(key.key_size // 8, "big"))
    point = key.public_key().public_numbers()
    size = key.curve.key_size // 8
    x, y = point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")
    return head + struct.pack(">HH", _CURVES[key.curve.name], _NULL) + tpm2b(x) + tpm2b(y)


def _rsa_seed(key: rsa.RSAPrivateKey, encrypted_secret: bytes, name_hash: str) -> bytes:
    algorithm = _HASHES[name_hash]()
    return key.decrypt(encrypted_secret, OAEP(MGF1(algorithm), algorithm, b"IDENTITY\0"))


def _ecc_seed(key: ec.EllipticCurvePrivateKey, encrypted_secret: bytes, name_hash: str) -> bytes:
    size = key.curve.key_size // 8
    x, y = encrypted_secret[2 : 2 + size], encrypted_secret[4 + size :]
    if encrypted_secret != tpm2b(x) + tpm2b(y):
        raise ValueError("TPM_RC_SIZE")
    theirs = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), key.curve).public_key()
    z = key.exchange(ec.ECDH(), theirs)
    own_x = key.public_key().public_numbers().x.to_bytes(size, "big")
    return hashlib.new(name_hash, struct.pack(">I", 1) + z + b"IDENTITY\0" + x + own_x).digest()


def _kdfa(name_hash: str, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    block = hmac.digest(key, struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits), name_hash)
    return block[: bits // 8]
