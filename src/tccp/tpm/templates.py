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

_STORAGE = _FIXED | ObjectAttribute.USER_WITH_AUTH | ObjectAttribute.NO_DA
_STORAGE |= ObjectAttribute.RESTRICTED | ObjectAttribute.DECRYPT


@dataclass(frozen=True, slots=True)
class EkSlot:
    """A place in NV for one kind of endorsement key, and the templates that may stand behind it.

    Attributes:
        name: The kind's name in the profile.
        template_nv: Where a maker leaves a template that differs from the profile's, as TPMT_PUBLIC.
        nonce_nv: Where a maker leaves what goes into the template's `unique` field.
        head: TPMT_PUBLIC up to `unique`.
        unique_bytes: The sizes of the one or two buffers of `unique`.
        templates: The profile's template; a second one where TPMs read the profile differently.
    """

    name: str
    kind: KeyKind
    certificate_nv: int
    template_nv: int
    nonce_nv: int | None
    head: bytes
    unique_bytes: tuple[int, ...]
    templates: tuple[bytes, ...]

    def template_with_nonce(self, nonce: bytes) -> bytes:
        """The template with *nonce* at the start of `unique`, and zeros behind it."""
        size = self.unique_bytes[0]
        rest = b"".join(tpm2b(bytes(count)) for count in self.unique_bytes[1:])
        return self.head + tpm2b(nonce[:size].ljust(size, b"\0")) + rest


def _low(name: str, certificate_nv: int, head: bytes, unique_bytes: tuple[int, ...]) -> EkSlot:
    """A slot of the low range: certificate, nonce and template side by side, `unique` filled with zeros."""
    kind: KeyKind = "rsa" if len(unique_bytes) == 1 else "ecc"
    zeros = head + b"".join(tpm2b(bytes(size)) for size in unique_bytes)
    return EkSlot(name, kind, certificate_nv, certificate_nv + 2, certificate_nv + 1, head, unique_bytes, (zeros,))


def _high(name: str, certificate_nv: int, head: bytes, unique_bytes: tuple[int, ...]) -> EkSlot:
    """A slot of the high range: certificate and template side by side, `unique` empty, or of zeros in swtpm."""
    kind: KeyKind = "rsa" if len(unique_bytes) == 1 else "ecc"
    empty = head + tpm2b(b"") * len(unique_bytes)
    zeros = head + b"".join(tpm2b(bytes(size)) for size in unique_bytes)
    return EkSlot(name, kind, certificate_nv, certificate_nv + 1, None, head, unique_bytes, (empty, zeros))


def _rsa_head(attributes: ObjectAttribute, policy: bytes) -> bytes:
    symmetric = u16(Algorithm.AES) + u16(128) + u16(Algorithm.CFB)
    parameters = symmetric + u16(Algorithm.NULL) + u16(_RSA_BITS) + u32(0)
    return u16(Algorithm.RSA) + u16(Algorithm.SHA256) + u32(attributes) + tpm2b(policy) + parameters


def _ecc_head(curve: Curve, attributes: ObjectAttribute, policy: bytes) -> bytes:
    name_alg, aes_bits = (Algorithm.SHA256, 128) if curve == Curve.NIST_P256 else (Algorithm.SHA384, 256)
    symmetric = u16(Algorithm.AES) + u16(aes_bits) + u16(Algorithm.CFB)
    parameters = symmetric + u16(Algorithm.NULL) + u16(curve) + u16(Algorithm.NULL)
    return u16(Algorithm.ECC) + u16(name_alg) + u32(attributes) + tpm2b(policy) + parameters


# In order of preference.
EK_SLOTS = (
    _low("L-2", 0x01C0000A, _ecc_head(Curve.NIST_P256, _EK_LOW, _POLICY_A_SHA256), (32, 32)),
    _high("H-2", 0x01C00014, _ecc_head(Curve.NIST_P256, _EK_HIGH, _POLICY_B_SHA256), (32, 32)),
    _high("H-3", 0x01C00016, _ecc_head(Curve.NIST_P384, _EK_HIGH, _POLICY_B_SHA384), (48, 48)),
    _low("L-1", 0x01C00002, _rsa_head(_EK_LOW, _POLICY_A_SHA256), (_RSA_BITS // 8,)),
    _high("H-1", 0x01C00012, _rsa_head(_EK_HIGH, _POLICY_B_SHA256), (_RSA_BITS // 8,)),
)

# The storage key of the owner hierarchy (TCG TPM v2.0 Provisioning Guidance, 7.5.1): the EK's template with a password
# instead of a policy, out of reach of the dictionary-attack lockout.
STORAGE_TEMPLATE = _ecc_head(Curve.NIST_P256, _STORAGE, b"") + tpm2b(bytes(32)) * 2

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
