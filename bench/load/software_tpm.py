"""A TPM's part in registration and renewal, in software: real keys, real structures, real signatures.

Thousands of swtpm processes do not fit on one machine; what the coordinator verifies is the same, bit by bit:
a TPMT_PUBLIC of an EK and an AK (TPM 2.0 Library, Part 2, 12.2.4), TPM2_ActivateCredential (Part 1, 24) and
TPM2_Quote (Part 2, 10.12). Such a TPM is worth nothing as evidence, which is why a coordinator asks for an EK
that a TPM's maker certified; the load enrols these by their public keys.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

try:  # the mode moved between releases
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    from cryptography.hazmat.primitives.ciphers.modes import CFB

from tccp.model import PcrSelection, PcrValues

ALG_SHA256, ALG_AES, ALG_CFB, ALG_NULL, ALG_ECDSA, ALG_ECC, CURVE_P256 = 0x0B, 0x06, 0x43, 0x10, 0x18, 0x23, 0x03
EK_ATTRIBUTES = 0x000300B2  # fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt
AK_ATTRIBUTES = 0x00050072  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
PREHASHED = ec.ECDSA(Prehashed(hashes.SHA256()))


def tpm2b(value: bytes) -> bytes:
    """A TPM2B."""
    return len(value).to_bytes(2, "big") + value


class SoftwareTpm:
    """An ECC P-256 EK and AK, and PCRs that are all zero."""

    def __init__(self) -> None:
        self._ek, self._ak = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        storage = struct.pack(">HHHHHH", ALG_AES, 128, ALG_CFB, ALG_NULL, CURVE_P256, ALG_NULL)
        self.ek_public = _public(EK_ATTRIBUTES, EK_POLICY, storage, self._ek)
        signing = struct.pack(">HHHHH", ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL)
        self.ak_public = _public(AK_ATTRIBUTES, b"", signing, self._ak)
        self.ak_name = b"\0\x0b" + hashlib.sha256(self.ak_public).digest()
        self._qualified_signer = tpm2b(b"\0\x0b" + hashlib.sha256(b"endorsement" + self.ak_name).digest())

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """The credential that only this TPM can read."""
        x_len = int.from_bytes(encrypted_secret[:2], "big")
        x, y = encrypted_secret[2 : 2 + x_len], encrypted_secret[4 + x_len :]
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        shared = self._ek.exchange(ec.ECDH(), numbers.public_key())
        own_x = self._ek.public_key().public_numbers().x.to_bytes(32, "big")
        seed = hashlib.sha256(b"\0\0\0\1" + shared + b"IDENTITY\0" + x.rjust(32, b"\0") + own_x).digest()  # KDFe
        integrity, sealed = id_object[2:34], id_object[34:]
        key = _kdfa(seed, b"INTEGRITY", b"", 256)
        assert hmac.compare_digest(integrity, hmac.digest(key, sealed + self.ak_name, "sha256"))
        decryptor = Cipher(algorithms.AES(_kdfa(seed, b"STORAGE", self.ak_name, 128)), CFB(bytes(16))).decryptor()
        return (decryptor.update(sealed) + decryptor.finalize())[2:]

    def quote(self, qualifying_data: bytes, selection: PcrSelection) -> tuple[bytes, bytes, PcrValues]:
        """TPMS_ATTEST, TPMT_SIGNATURE and the PCR values."""
        pcrs = PcrValues(selection, dict.fromkeys(selection.indexes, bytes(32)))
        attest = (
            b"\xffTCG\x80\x18"
            + self._qualified_signer
            + tpm2b(qualifying_data)
            + struct.pack(">QIIBQ", 1000, 1, 0, 1, 0x2024)
            + struct.pack(">IHB", 1, ALG_SHA256, 3)
            + selection.mask.to_bytes(3, "little")
            + tpm2b(hashlib.sha256(pcrs.concatenated).digest())
        )
        r, s = decode_dss_signature(self._ak.sign(hashlib.sha256(attest).digest(), PREHASHED))
        signature = (
            struct.pack(">HH", ALG_ECDSA, ALG_SHA256) + tpm2b(r.to_bytes(32, "big")) + tpm2b(s.to_bytes(32, "big"))
        )
        return attest, signature, pcrs


def _public(attributes: int, policy: bytes, parameters: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    head = struct.pack(">HHI", ALG_ECC, ALG_SHA256, attributes) + tpm2b(policy)
    return head + parameters + tpm2b(point[1:33]) + tpm2b(point[33:])


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """TPM 2.0 Library, Part 1, 11.4.10.2; one block is enough here."""
    return hmac.digest(key, b"\0\0\0\1" + label + b"\0" + context + bits.to_bytes(4, "big"), "sha256")[: bits // 8]
