"""The key templates: the public areas from which a TPM derives its primary keys, always the same for the same TPM.

The endorsement keys are those of the TCG EK Credential Profile 2.5, annex B: L-1 and L-2 of the low NV range, H-1,
H-2 and H-3 of the high one. The attestation keys are ours; they too live under the endorsement hierarchy, where the
TPM does not obfuscate resetCount and restartCount in what it signs (TPM 2.0 Library, Part 2, TPMS_ATTEST).
"""

from dataclasses import dataclass
from typing import Literal

from tccp.tpm.constants import Algorithm, Curve, ObjectAttribute
from tccp.tpm.marshal import tpm2b, u16, u32

KeyKind = Literal["ecc", "rsa"]

_RSA_BITS = 2048
# The digest after PolicySecret(TPM_RH_ENDORSEMENT), and after PolicyOR over that and a policy held in NV.
_POLICY_A_SHA256 = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_POLICY_B_SHA256 = bytes.fromhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
_POLICY_B_SHA384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)

_FIXED = ObjectAttribute.FIXED_TPM | ObjectAttribute.FIXED_PARENT | ObjectAttribute.SENSITIVE_DATA_ORIGIN
_EK_LOW = _FIXED | ObjectAttribute.ADMIN_WITH_POLICY | ObjectAttribute.RESTRICTED | ObjectAttribute.DECRYPT
_EK_HIGH = _EK_LOW | ObjectAttribute.USER_WITH_AUTH
_AK = _FIXED | ObjectAttribute.USER_WITH_AUTH | ObjectAttribute.RESTRICTED | ObjectAttribute.SIGN


@dataclass(frozen=True, slots=True)
class EkTemplate:
    """One kind of endorsement key: the name it has in the profile, where its certificate lies, its TPMT_PUBLIC."""

    name: str
    kind: KeyKind
    certificate_nv: int
    public: bytes


def _storage_rsa(attributes: ObjectAttribute, policy: bytes, unique: bytes) -> bytes:
    symmetric = u16(Algorithm.AES) + u16(128) + u16(Algorithm.CFB)
    parameters = symmetric + u16(Algorithm.NULL) + u16(_RSA_BITS) + u32(0)
    return u16(Algorithm.RSA) + u16(Algorithm.SHA256) + u32(attributes) + tpm2b(policy) + parameters + tpm2b(unique)


def _storage_ecc(curve: Curve, attributes: ObjectAttribute, policy: bytes, coordinate: bytes) -> bytes:
    name_alg, aes_bits = (Algorithm.SHA256, 128) if curve == Curve.NIST_P256 else (Algorithm.SHA384, 256)
    symmetric = u16(Algorithm.AES) + u16(aes_bits) + u16(Algorithm.CFB)
    parameters = symmetric + u16(Algorithm.NULL) + u16(curve) + u16(Algorithm.NULL)
    unique = tpm2b(coordinate) * 2
    return u16(Algorithm.ECC) + u16(name_alg) + u32(attributes) + tpm2b(policy) + parameters + unique


# In order of preference. Two rows may share an NV index: swtpm puts zeros where H-3 has an empty buffer.
EK_TEMPLATES = (
    EkTemplate(
        "L-2",
        "ecc",
        0x01C0000A,
        _storage_ecc(Curve.NIST_P256, _EK_LOW, _POLICY_A_SHA256, bytes(32)),
    ),
    EkTemplate("H-2", "ecc", 0x01C00014, _storage_ecc(Curve.NIST_P256, _EK_HIGH, _POLICY_B_SHA256, b"")),
    EkTemplate("H-3", "ecc", 0x01C00016, _storage_ecc(Curve.NIST_P384, _EK_HIGH, _POLICY_B_SHA384, b"")),
    EkTemplate(
        "H-3 of swtpm",
        "ecc",
        0x01C00016,
        _storage_ecc(Curve.NIST_P384, _EK_HIGH, _POLICY_B_SHA384, bytes(48)),
    ),
    EkTemplate("L-1", "rsa", 0x01C00002, _storage_rsa(_EK_LOW, _POLICY_A_SHA256, bytes(_RSA_BITS // 8))),
    EkTemplate("H-1", "rsa", 0x01C00012, _storage_rsa(_EK_HIGH, _POLICY_B_SHA256, b"")),
)

# Restricted: the TPM signs with it only what it made itself.
AK_TEMPLATES: dict[KeyKind, bytes] = {
    "ecc": u16(Algorithm.ECC)
    + u16(Algorithm.SHA256)
    + u32(_AK)
    + tpm2b(b"")
    + u16(Algorithm.NULL)
    + u16(Algorithm.ECDSA)
    + u16(Algorithm.SHA256)
    + u16(Curve.NIST_P256)
    + u16(Algorithm.NULL)
    + tpm2b(b"") * 2,
    "rsa": u16(Algorithm.RSA)
    + u16(Algorithm.SHA256)
    + u32(_AK)
    + tpm2b(b"")
    + u16(Algorithm.NULL)
    + u16(Algorithm.RSASSA)
    + u16(Algorithm.SHA256)
    + u16(_RSA_BITS)
    + u32(0)
    + tpm2b(b""),
}
