"""The policy under which a secret is sealed, worked out without a TPM (TPM 2.0 Library, Part 3, 23; Part 1, 19.7).

What an *authority* (a P-256 key) has signed may be fulfilled in place of the sealed object's own policy, so that new
states can be approved long after sealing:

    object:    PolicyAuthorize(authority, reference)
    approved:  PolicyNV(counter <= generation), PolicyPCR(values)       signed: SHA-256(approved || reference)

The counter only ever grows: what was approved up to a generation ends for ever when the counter passes it.
"""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tccp.model import PcrValues
from tccp.tpm.constants import EO_UNSIGNED_LE, Algorithm, CommandCode, Curve, NvAttribute, ObjectAttribute
from tccp.tpm.marshal import tpm2b, u16, u32
from tccp.tpm.structures import put_selection

# Ours in the owner's range of NV indices (Registry of Reserved TPM 2.0 Handles and Localities, 2.2).
COUNTER_INDEX = 0x0187_4343
COUNTER_BYTES = 8
COUNTER_ATTRIBUTES = (
    NvAttribute.COUNTER
    | NvAttribute.OWNER_WRITE
    | NvAttribute.OWNER_READ
    | NvAttribute.AUTH_READ
    | NvAttribute.NO_DICTIONARY_ATTACKS
)
_COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Approved:
    """What an approval allows: these PCR values, until the TPM's counter has passed *generation*."""

    pcrs: PcrValues
    generation: int

    @property
    def policy(self) -> bytes:
        """The policy digest after PolicyNV and PolicyPCR."""
        compared = hashlib.sha256(self.operand + u16(0) + u16(EO_UNSIGNED_LE)).digest()
        digest = _extended(bytes(32), CommandCode.POLICY_NV, compared + COUNTER_NAME)
        selected = put_selection(self.pcrs.selection) + hashlib.sha256(self.pcrs.concatenated).digest()
        return _extended(digest, CommandCode.POLICY_PCR, selected)

    @property
    def operand(self) -> bytes:
        """What the counter is compared with."""
        return self.generation.to_bytes(COUNTER_BYTES, "big")


@dataclass(frozen=True, slots=True)
class Approval:
    """An *approved* state with an authority's signature (ECDSA with SHA-256, DER), for objects of one *reference*."""

    approved: Approved
    authority: ec.EllipticCurvePublicKey
    reference: bytes
    signature: bytes

    @property
    def tpm_signature(self) -> bytes:
        """The signature as TPMT_SIGNATURE (Part 2, 11.3.4)."""
        numbers = decode_dss_signature(self.signature)
        r, s = (tpm2b(number.to_bytes(_COORDINATE_BYTES, "big")) for number in numbers)
        return u16(Algorithm.ECDSA) + u16(Algorithm.SHA256) + r + s


def to_be_signed(approved: Approved, reference: bytes) -> bytes:
    """The message whose SHA-256 an authority signs (aHash; Part 3, 23.16)."""
    return approved.policy + reference


def digest_to_sign(approved: Approved, reference: bytes) -> bytes:
    """The SHA-256 of `to_be_signed`, as the TPM takes it."""
    return hashlib.sha256(to_be_signed(approved, reference)).digest()


def object_policy(authority: ec.EllipticCurvePublicKey, reference: bytes) -> bytes:
    """The policy of a sealed object: whatever *authority* approves for *reference* (Part 3, 23.16)."""
    digest = _extended(bytes(32), CommandCode.POLICY_AUTHORIZE, name_of(authority_public(authority)))
    return hashlib.sha256(digest + reference).digest()


def authority_public(authority: ec.EllipticCurvePublicKey) -> bytes:
    """The TPMT_PUBLIC under which the TPM knows *authority*, a P-256 key: only verifies."""
    numbers = authority.public_numbers()
    attributes = ObjectAttribute.USER_WITH_AUTH | ObjectAttribute.SIGN
    head = u16(Algorithm.ECC) + u16(Algorithm.SHA256) + u32(attributes) + tpm2b(b"")
    parameters = u16(Algorithm.NULL) * 2 + u16(Curve.NIST_P256) + u16(Algorithm.NULL)
    point = b"".join(tpm2b(number.to_bytes(_COORDINATE_BYTES, "big")) for number in (numbers.x, numbers.y))
    return head + parameters + point


def sealed_public(policy: bytes) -> bytes:
    """The template of a sealed object: bound to its TPM, opened by *policy* alone, no part of the lockout."""
    attributes = ObjectAttribute.FIXED_TPM | ObjectAttribute.FIXED_PARENT | ObjectAttribute.NO_DA
    head = u16(Algorithm.KEYEDHASH) + u16(Algorithm.SHA256) + u32(attributes | ObjectAttribute.ADMIN_WITH_POLICY)
    return head + tpm2b(policy) + u16(Algorithm.NULL) + tpm2b(b"")


def counter_public(attributes: int = COUNTER_ATTRIBUTES) -> bytes:
    """TPMS_NV_PUBLIC of the counter (Part 2, 13.6)."""
    return u32(COUNTER_INDEX) + u16(Algorithm.SHA256) + u32(attributes) + tpm2b(b"") + u16(COUNTER_BYTES)


def name_of(public: bytes) -> bytes:
    """The name of an object or index whose name algorithm is SHA-256 (Part 1, 16)."""
    return u16(Algorithm.SHA256) + hashlib.sha256(public).digest()


def _extended(digest: bytes, code: CommandCode, asserted: bytes) -> bytes:
    return hashlib.sha256(digest + u32(code) + asserted).digest()


COUNTER_NAME = name_of(counter_public(COUNTER_ATTRIBUTES | NvAttribute.WRITTEN))
