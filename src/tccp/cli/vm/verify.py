"""``tccp vm verify``: does a launch receipt hold, and what does it prove?"""

import argparse
from typing import TYPE_CHECKING, Any

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, hex_bytes
from tccp.cli.control import moment
from tccp.cli.exit_codes import UsageError
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json
from tccp.cli.ticket.pinned import add_coordinator, pinned_coordinator

GUEST_FILE_BYTES_MAX = 65_536

if TYPE_CHECKING:
    from tccp.attestation.deep import VerifiedGuest
    from tccp.tenant.launch import VerifiedLaunch

NOT_PROVED = (
    "that the VM still runs, or still runs there: it did when the node answered",
    "what the guest has become: only that it was started from these images, which open under no other key",
    "anything about whoever holds the hardware, or a fault in firmware or kernel that the policy allows",
)


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        run,
        summary="verify a launch receipt, and say what it proves",
        about="Offline: with the VM's file and what `tccp trust` has pinned. The receipt is the provider's; nothing\n"
        "in it is believed that does not follow from these two. A guest can show more: a quote of its vTPM with the\n"
        "AK at 0x81010010, and that AK's certificate from NV index 0x01C08000; give all five --guest options then.",
        examples=(
            "tccp vm verify web.receipt --vm web.vm",
            "tccp vm verify web.receipt --vm web.vm --guest-message q.msg --guest-signature q.sig --guest-pcrs q.pcrs "
            "--guest-ak-certificate ak.der --guest-nonce 00112233445566778899aabbccddeeff",
        ),
    )
    add_file(parser, "receipt", summary="the launch receipt; - is standard input")
    add_file(parser, "--vm", summary="the file in which you keep the VM", required=True)
    add_file(parser, "--guest-message", summary="quote from inside the guest (tpm2_quote -m)")
    add_file(parser, "--guest-signature", summary="its signature (tpm2_quote -s)")
    add_file(parser, "--guest-pcrs", summary="the PCR values (tpm2_quote -o)")
    add_file(parser, "--guest-ak-certificate", summary="certificate of the vTPM's AK, DER")
    parser.add_argument("--guest-nonce", metavar="HEX", type=hex_bytes, help="what the quote must answer")
    add_coordinator(parser)


def run(args: argparse.Namespace) -> int:
    """Verify, and tell."""
    from tccp.protocol.launch_proof import RECEIPT_BYTES_MAX
    from tccp.tenant.launch import verify_launch
    from tccp.tenant.pinned_log import pinned_log_of
    from tccp.tenant.vm_file import read_vm_file

    trust = pinned_log_of(pinned_coordinator(args))
    content = read_file(args.receipt, bytes_max=RECEIPT_BYTES_MAX)
    launch = verify_launch(content, vm=read_vm_file(args.vm), trust=trust)
    guest = _guest(args, launch)
    if args.json:
        print_json(_document(launch, guest))
    else:
        _show(args, launch, guest)
    return exit_codes.OK


def _guest(args: argparse.Namespace, launch: "VerifiedLaunch") -> "VerifiedGuest | None":
    from tccp.attestation.deep import GuestEvidence
    from tccp.cli.evidence.pcr_file import PCR_FILE_BYTES_MAX, parse_pcr_file
    from tccp.model import PcrBank
    from tccp.tenant.launch import verify_launched_guest

    files = (args.guest_message, args.guest_signature, args.guest_pcrs, args.guest_ak_certificate)
    given = [*files, args.guest_nonce]
    if all(each is None for each in given):
        return None
    if any(each is None for each in given):
        raise UsageError("usage", "a guest's quote takes all five --guest options")
    message, signature, _, certificate = (read_file(path, bytes_max=GUEST_FILE_BYTES_MAX) for path in files)
    pcrs = parse_pcr_file(read_file(args.guest_pcrs, bytes_max=PCR_FILE_BYTES_MAX))
    evidence = GuestEvidence(message, signature, pcrs.whole_bank(PcrBank.SHA256), certificate)
    try:
        return verify_launched_guest(launch, evidence, nonce=args.guest_nonce)
    except ValueError as problem:  # what was asked of the guest proves nothing: PCR 16 or 23, too short a nonce
        raise UsageError("usage", f"--guest-pcrs, --guest-nonce: {problem}") from None


def _show(args: argparse.Namespace, launch: "VerifiedLaunch", guest: "VerifiedGuest | None") -> None:
    ticket, proof = launch.proof.ticket, launch.proof.proof
    screen = Screen()
    screen.line(f"{args.receipt}: accepted", style="accepted")
    name, version = launch.policy
    head = launch.release.checkpoint.checkpoint
    screen.list(
        "proved",
        [
            f"whoever made it holds the key of VM {proof.vm_id.hex()}, and answered the nonce of the ticket",
            f"the coordinator released that key by ticket {ticket.sha256.hex()[:16]}, once, in epoch {proof.epoch}, "
            f"at {moment(launch.released_ms)}",
            f"to node {launch.node}, in the boot {launch.proof.identity.boot_id.hex()[:16]}, whose quote it had judged "
            f"by policy {name} version {version} at {moment(launch.evidence_ms)}",
            f"the release is entry {launch.release.index} of its log of {head.size} entries, and can never be denied",
            f"that boot says that it started the VM, from the images of the ticket, at {moment(proof.started_ms)}",
            *_attested(launch),
            *_proved_by(guest),
        ],
    )
    screen.list("not proved", [*(NOT_PROVED if guest is None else NOT_PROVED[2:]), *_asserted(launch)])


def _attested(launch: "VerifiedLaunch") -> list[str]:
    said = [f"{name}={value}" for name, value in sorted(launch.attributes.attested.items())]
    return [f"that node's evidence said: {', '.join(said)}"] if said else []


def _asserted(launch: "VerifiedLaunch") -> list[str]:
    said = [f"{name}={value}" for name, value in sorted(launch.attributes.asserted.items())]
    return [f"what whoever enrolled the node asserts: {', '.join(said)}"] if said else []


def _proved_by(guest: "VerifiedGuest | None") -> list[str]:
    if guest is None:
        return []
    values = guest.quote.pcrs.values
    return [
        "the guest's vTPM, certified by that boot for this VM and these images, has quoted for your nonce",
        *(f"PCR {index} of it is {values[index].hex()}" for index in sorted(values)),
    ]


def _document(launch: "VerifiedLaunch", guest: "VerifiedGuest | None") -> dict[str, Any]:
    proof, head = launch.proof.proof, launch.release.checkpoint.checkpoint
    return {
        "verdict": "accepted",
        "vm_id": proof.vm_id,
        "epoch": proof.epoch,
        "ticket": launch.proof.ticket.sha256,
        "node": launch.node,
        "boot_id": launch.proof.identity.boot_id,
        "policy": {"name": launch.policy[0], "version": launch.policy[1]},
        "evidence_ms": launch.evidence_ms,
        "attributes": {"attested": launch.attributes.attested, "asserted": launch.attributes.asserted},
        "released_ms": launch.released_ms,
        "started_ms": proof.started_ms,
        "log": {"origin": head.origin, "index": launch.release.index, "size": head.size, "root": head.root},
        "vtpm": {"ek_spki": launch.vtpm.spki, "ek_certificate": proof.ek_certificate} if launch.vtpm else None,
        "guest": {"pcrs": {str(index): value for index, value in guest.quote.pcrs.values.items()}} if guest else None,
        "not_proved": list(NOT_PROVED if guest is None else NOT_PROVED[2:]),
    }
