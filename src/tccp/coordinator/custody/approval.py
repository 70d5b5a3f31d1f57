"""Requests and approvals: in which state of its machine a coordinator's keys may be unsealed.

    coordinator: current PCR values -> request -> authority, elsewhere: looks, signs -> approval -> coordinator

Both are TOML, so that whoever signs can read what::

    kind = "tccp/v1/keys-approval"     # a request: "tccp/v1/keys-request"
    coordinator = "<64 hex digits>"    # its id
    authority = "<64 hex digits>"      # SHA-256 of the authority's SubjectPublicKeyInfo
    generation = 1                     # ends when the counter in the TPM has passed it
    bank = "sha256"
    signature = "<hex>"                # ECDSA, DER; a request has none

    [pcrs]
    0 = "<64 hex digits>"

The signature is what TPM2_PolicyAuthorize wants: over the policy digest of generation and PCRs, and over a reference
that says what the signature is for (this purpose, this coordinator). So nothing of the text counts that is not signed.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Meta

from tccp.coordinator.custody.authority import authority_id
from tccp.errors import ConfigError
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues
from tccp.toml import parse_toml
from tccp.tpm.policy import Approval, Approved, to_be_signed

FILE_BYTES_MAX = 16_384
REQUEST_KIND = "tccp/v1/keys-request"
APPROVAL_KIND = "tccp/v1/keys-approval"
ECDSA = ec.ECDSA(hashes.SHA256())

Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    kind: Literal["tccp/v1/keys-request", "tccp/v1/keys-approval"]
    coordinator: Hex32
    authority: Hex32
    generation: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    bank: Literal["sha256", "sha384", "sha512"]
    signature: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){0,80}$")] = ""
    pcrs: Annotated[dict[str, str], Meta(min_length=1, max_length=24)]


@dataclass(frozen=True, slots=True)
class Request:
    """What an authority is asked to approve; an approval says the same, with a signature beside it."""

    coordinator_id: bytes
    authority_id: bytes
    approved: Approved


@dataclass(frozen=True, slots=True)
class SignedApproval:
    """An approval file whose signature nobody has verified yet."""

    request: Request
    signature: bytes = field(repr=False)

    def verified(self, authority: ec.EllipticCurvePublicKey, coordinator_id: bytes) -> Approval:
        """What the TPM of *coordinator_id* will accept, if *authority* is the one of its keys.

        Raises:
            ConfigError: ``approval_of_another_authority``, ``approval_for_another_coordinator``, ``approval_forged``.
        """
        if self.request.authority_id != authority_id(authority):
            ours, theirs = authority_id(authority).hex()[:16], self.request.authority_id.hex()[:16]
            raise ConfigError("approval_of_another_authority", f"by {theirs}; the keys obey {ours}")
        if self.request.coordinator_id != coordinator_id:
            ours, theirs = coordinator_id.hex()[:16], self.request.coordinator_id.hex()[:16]
            raise ConfigError("approval_for_another_coordinator", f"for {theirs}; this one is {ours}")
        reference = reference_of(coordinator_id)
        try:
            authority.verify(self.signature, to_be_signed(self.request.approved, reference), ECDSA)
        except InvalidSignature:
            raise ConfigError("approval_forged", "the signature is not by the authority over these values") from None
        return Approval(self.request.approved, authority, reference, self.signature)


def reference_of(coordinator_id: bytes) -> bytes:
    """The policyRef of a coordinator's keys: what an authority's signature is for."""
    return hashlib.sha256(b"tccp/v1/keys-approval\0" + coordinator_id).digest()


def approve(request: Request, authority: ec.EllipticCurvePrivateKey) -> SignedApproval:
    """Sign *request*.

    Raises:
        ConfigError: ``approval_of_another_authority``: it asks somebody else.
    """
    asked, ours = request.authority_id, authority_id(authority.public_key())
    if asked != ours:
        detail = f"the request is for {asked.hex()[:16]}, the key is {ours.hex()[:16]}"
        raise ConfigError("approval_of_another_authority", detail)
    message = to_be_signed(request.approved, reference_of(request.coordinator_id))
    return SignedApproval(request, authority.sign(message, ECDSA))


def write_request(request: Request) -> bytes:
    """The file of a request."""
    head = "# In this state of its machine a coordinator asks to use its keys. Approve it only if you know the state."
    return _write(REQUEST_KIND, head, request, b"")


def write_approval(approval: SignedApproval) -> bytes:
    """The file of an approval."""
    head = "# In this state of its machine a coordinator may use its keys."
    return _write(APPROVAL_KIND, head, approval.request, approval.signature)


def parse_request(content: bytes) -> Request:
    """The request in a file.

    Raises:
        ConfigError: ``request_invalid``.
    """
    return _parse(content, REQUEST_KIND, "request_invalid")[0]


def parse_approval(content: bytes) -> SignedApproval:
    """The approval in a file, not verified.

    Raises:
        ConfigError: ``approval_invalid``.
    """
    return SignedApproval(*_parse(content, APPROVAL_KIND, "approval_invalid"))


def _write(kind: str, head: str, request: Request, signature: bytes) -> bytes:
    pcrs = request.approved.pcrs
    lines = [
        head,
        f'kind = "{kind}"',
        f'coordinator = "{request.coordinator_id.hex()}"',
        f'authority = "{request.authority_id.hex()}"',
        f"generation = {request.approved.generation}",
        f'bank = "{pcrs.selection.bank.hash_name}"',
        *([f'signature = "{signature.hex()}"'] if signature else []),
        "",
        "[pcrs]",
        *(f'{index} = "{pcrs.values[index].hex()}"' for index in pcrs.selection.indexes),
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def _parse(content: bytes, kind: str, reason: str) -> tuple[Request, bytes]:
    if len(content) > FILE_BYTES_MAX or not content.isascii():
        raise ConfigError(reason, f"more than {FILE_BYTES_MAX} bytes, or not ASCII")
    try:
        file = msgspec.convert(parse_toml(content), _File, strict=True)
        if file.kind != kind:
            raise ConfigError(reason, f"a {file.kind} instead of a {kind}")
        if bool(file.signature) is not (kind == APPROVAL_KIND):
            raise ConfigError(reason, "an approval has a signature, a request has none")
        values = {int(index): bytes.fromhex(value) for index, value in file.pcrs.items()}
        if not RESETTABLE_PCRS.isdisjoint(values):
            raise ConfigError(reason, "pcrs: PCR 16 and 23 prove nothing: software can reset them")
        pcrs = PcrValues(PcrSelection.of(PcrBank.from_name(file.bank), values), values)
        signature = bytes.fromhex(file.signature)
    except ValueError as problem:
        raise ConfigError(reason, str(problem)) from None
    coordinator, authority = bytes.fromhex(file.coordinator), bytes.fromhex(file.authority)
    return Request(coordinator, authority, Approved(pcrs, file.generation)), signature
