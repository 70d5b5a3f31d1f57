"""Verifying a launch, offline: does a node that the coordinator vouches for run the VM that this ticket describes?

launch receipt = ticket + the node's proof + the log's receipt of the release

proof: MAC under the VM's key, over the ticket's nonce ---- made by whoever has the key: the coordinator's choice
  '- identity of a boot ------- the same hash ------------- in the log's entry of that release, with node and policy
"""

import hashlib
from dataclasses import dataclass

from tccp.attestation.attributes import NodeAttributes, attributes_in
from tccp.attestation.deep import GuestEvidence, VerifiedGuest, verify_guest
from tccp.attestation.vtpm_certificate import VtpmClaim, VtpmKey, verify_vtpm_certificate
from tccp.errors import LaunchError
from tccp.protocol.launch_proof import VerifiedProof, read_launch_receipt, verify_proof
from tccp.protocol.ticket import Ticket, check_addressee, verify_ticket
from tccp.tenant.pinned_log import PinnedLog
from tccp.tenant.vm_file import VmFile
from tccp.transparency.packed import Value
from tccp.transparency.receipt import VerifiedReceipt

OWNERSHIP = frozenset({"release", "resume", "moved"})  # the events by which a node owns a VM
BOOT_ORDER = ("kernel", "initrd", "disk")  # in which a vTPM's certificate names what was started; data is not


@dataclass(frozen=True, slots=True)
class VerifiedLaunch:
    """What a launch receipt proves. Only `verify_launch` makes one.

    Attributes:
        node: The name under which the coordinator knows the node.
        policy: The policy that had admitted it, and the version.
        evidence_ms: When the node's last evidence before the release was judged, by the coordinator's clock.
        released_ms: When the keys were released, by the coordinator's clock.
        vtpm: The endorsement key of the VM's vTPM; None when it has none.
        attributes: What was known of the node when it got the keys, and whether it was attested.
    """

    proof: VerifiedProof
    release: VerifiedReceipt
    node: str
    policy: tuple[str, int]
    evidence_ms: int
    released_ms: int
    vtpm: VtpmKey | None
    attributes: NodeAttributes


def verify_launch(content: bytes, *, vm: VmFile, trust: PinnedLog) -> VerifiedLaunch:
    """Check a launch receipt with nothing but the VM's file and what was pinned.

    Raises:
        LaunchError: ``another_ticket``: none that we signed for this VM; ``release_mismatch``: the log's entry is of
            something else; ``vtpm_mismatch``; as `verify_proof`, `verify_ticket` and `check_addressee`.
        LogError: The log's receipt does not hold; as `PinnedLog.verify`.
        EnrolmentError: The certificate of the vTPM does not hold; as `verify_vtpm_certificate`.
    """
    receipt = read_launch_receipt(content)
    ticket_sha256 = hashlib.sha256(receipt.ticket).digest()
    if ticket_sha256 not in vm.tickets:
        raise LaunchError(
            "another_ticket",
            f"the receipt is of ticket {ticket_sha256.hex()[:16]}, none of the {len(vm.tickets)} of this VM",
            hint="Verify it with the file that `tccp ticket create --vm` wrote for that ticket.",
        )
    check_addressee(verify_ticket(receipt.ticket, receipt.ticket_signature), trust.coordinator_id)
    proof = verify_proof(receipt, vm_key=vm.vm_key, ticket_sha256=ticket_sha256)
    release = trust.verify(receipt.log_receipt)
    details = _check_release(release, proof)
    return VerifiedLaunch(
        proof=proof,
        release=release,
        node=_text(details, "node"),
        policy=(_text(details, "policy"), _number(details, "policy_version")),
        evidence_ms=_number(details, "evidence_ms"),
        released_ms=release.at_ms,
        vtpm=_vtpm(proof),
        attributes=_attributes(details, proof.ticket.ticket),
    )


def verify_launched_guest(launch: VerifiedLaunch, evidence: GuestEvidence, *, nonce: bytes) -> VerifiedGuest:
    """Check a quote that was made inside of the guest of *launch*, down to the boot of the node that runs it.

    Args:
        nonce: That the quote must answer, 16 to 64 bytes.

    Raises:
        LaunchError: ``vtpm_mismatch``: the vTPM belongs to a VM of other images.
        EnrolmentError, QuoteError, ValueError: As `verify_guest`.
    """
    proof = launch.proof
    guest = verify_guest(
        evidence,
        vm_id=proof.proof.vm_id,
        qualifying_data=nonce,
        statement=proof.proof.identity,
        signing_key=proof.identity.signing_key,
    )
    _check_claim(guest.claim, proof.ticket.ticket)
    return guest


def _vtpm(proof: VerifiedProof) -> VtpmKey | None:
    certificate, statement = proof.proof.ek_certificate, proof.proof.identity
    if not certificate:
        return None
    key = verify_vtpm_certificate(certificate, "ek", statement=statement, signing_key=proof.identity.signing_key)
    _check_claim(key.claim, proof.ticket.ticket)
    return key


def _check_claim(claim: VtpmClaim, ticket: Ticket) -> None:
    """Whether the node says of the vTPM what the ticket says of the VM."""
    started = tuple((image.role, image.root) for role in BOOT_ORDER for image in ticket.images if image.role == role)
    if (claim.vm_id, claim.images) != (ticket.vm_id, started):
        raise LaunchError("vtpm_mismatch", "the vTPM's certificate names another VM, or other images than the ticket")


def _check_release(release: VerifiedReceipt, proof: VerifiedProof) -> dict[str, Value]:
    details = release.details
    if release.kind not in OWNERSHIP or details is None:
        raise LaunchError("release_mismatch", f"the log's receipt is of {release.kind!r}, or tells no details")
    ticket = proof.ticket.ticket
    expected: dict[str, Value] = {
        "ticket": proof.ticket.sha256,
        "vm_id": ticket.vm_id,
        "epoch": proof.proof.epoch,
        "tenant_key": ticket.tenant_key,
        "images": b"".join(image.root for image in ticket.images),
        "identity_sha256": proof.identity_sha256,
        "node": proof.identity.node,
    }
    for name, value in expected.items():
        if details.get(name) != value:
            raise LaunchError("release_mismatch", f"{name}: the log says another than the proof")
    demanded = ticket.policy
    if details.get("policy") != demanded.name or _number(details, "policy_version") < demanded.version_min:
        raise LaunchError("release_mismatch", "policy: the log names another than the ticket demands")
    return details


def _attributes(details: dict[str, Value], ticket: Ticket) -> NodeAttributes:
    """What the log says of the node, which has what the ticket demands."""
    try:
        found = attributes_in(details)
    except ValueError as problem:
        raise LaunchError("release_mismatch", str(problem)) from None
    if lacking := found.lacking_evidence(ticket.policy.attested) or found.lacking(ticket.attributes):
        raise LaunchError("release_mismatch", f"attributes: {lacking}")
    return found


def _text(details: dict[str, Value], name: str) -> str:
    value = details.get(name)
    if not isinstance(value, str):
        raise LaunchError("release_mismatch", f"{name}: missing")
    return value


def _number(details: dict[str, Value], name: str) -> int:
    value = details.get(name)
    if not isinstance(value, int):
        raise LaunchError("release_mismatch", f"{name}: missing")
    return value
