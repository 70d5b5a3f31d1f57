"""Deep attestation: from a quote made inside a guest down to the node's own evidence.

    guest's quote  <- signed by -  AK of the vTPM  <- certified by -  node's signing key  <- in -  identity statement
                                                                                                     |
    transparency log  <- logged by -  coordinator  <- verified by -  quote of the node's own TPM  <- covered by

This module goes as far as the statement; that the coordinator admitted a node with it is in its log. A caller who
would rather have the TPM prove that the AK lives beside the EK, as with a hardware TPM, challenges it:
`vtpm_ek`, then `tccp.attestation.enrolment.challenge_ak`.
"""

from dataclasses import InitVar, dataclass

from tccp.attestation.enrolment import TrustedEk, pinned_ek
from tccp.attestation.quote import AkKey, VerifiedQuote, verify_quote
from tccp.attestation.vtpm_certificate import VtpmClaim, VtpmKey, verify_vtpm_certificate
from tccp.errors import EnrolmentError
from tccp.model import PcrValues, spki_sha256

_PROVED = object()


@dataclass(frozen=True, slots=True)
class GuestEvidence:
    """What a guest shows: nothing of it is trusted."""

    attest: bytes
    signature: bytes
    pcrs: PcrValues
    ak_certificate: bytes


@dataclass(frozen=True, slots=True)
class VerifiedGuest:
    """A guest that runs from these images, under the node of this statement. Only `verify_guest` makes one."""

    claim: VtpmClaim
    quote: VerifiedQuote
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse to be made by anything else."""
        if proof is not _PROVED:
            raise TypeError("only verify_guest makes a VerifiedGuest")


def verify_guest(
    evidence: GuestEvidence, *, vm_id: bytes, qualifying_data: bytes, statement: bytes, signing_key: bytes
) -> VerifiedGuest:
    """Check the chain from the quote to the identity statement.

    Args:
        evidence: From the guest. Its PCR values are those of the selection that was asked for.
        vm_id: The virtual machine that it must be.
        qualifying_data: The nonce, or the digest that binds one: 16 to 64 bytes.
        statement: See `verify_vtpm_certificate`.
        signing_key: The Ed25519 key in *statement*.

    Raises:
        EnrolmentError: The certificate does not hold, or is about another VM (``another_vm``).
        QuoteError: The quote does not hold.
        ValueError: What was asked of the guest proves nothing: as `verify_quote`.
    """
    key = verify_vtpm_certificate(evidence.ak_certificate, "ak", statement=statement, signing_key=signing_key)
    _demand_vm(key, vm_id)
    try:
        ak = AkKey.from_spki(key.spki)
    except EnrolmentError as problem:
        raise EnrolmentError("key_attributes", f"a key that cannot quote: {problem.reason}") from None
    quote = verify_quote(evidence.attest, evidence.signature, evidence.pcrs, ak=ak, qualifying_data=qualifying_data)
    return VerifiedGuest(claim=key.claim, quote=quote, proof=_PROVED)


def vtpm_ek(ek_public: bytes, certificate: bytes, *, vm_id: bytes, statement: bytes, signing_key: bytes) -> TrustedEk:
    """The endorsement key of the vTPM of *vm_id*, to challenge its AK with; see `verify_guest` for the arguments.

    Raises:
        EnrolmentError: The certificate does not hold, is about another VM, or about another key than *ek_public*.
    """
    key = verify_vtpm_certificate(certificate, "ek", statement=statement, signing_key=signing_key)
    _demand_vm(key, vm_id)
    return pinned_ek(ek_public, pinned_sha256=spki_sha256(key.spki))


def _demand_vm(key: VtpmKey, vm_id: bytes) -> None:
    if key.claim.vm_id != vm_id:
        raise EnrolmentError("another_vm", f"the vTPM of {key.claim.vm_id.hex()}")
