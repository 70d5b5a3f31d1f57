"""``tccp vm verify``: does a launch receipt hold, and what does it prove?"""

import argparse
from typing import TYPE_CHECKING, Any

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.control import moment
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json
from tccp.cli.ticket.pinned import add_coordinator, pinned_coordinator

if TYPE_CHECKING:
    from tccp.tenant.launch import CoordinatorTrust, VerifiedLaunch
    from tccp.tenant.trust_store import PinnedCoordinator

NOT_PROVED = (
    "that the VM still runs, or still runs there: it did when the node answered",
    "what is inside the guest: only that it was started from these images, which open under no other key",
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
        "in it is believed that does not follow from these two.",
        examples=("tccp vm verify web.receipt --vm web.vm", "tccp vm verify web.receipt --vm web.vm --json"),
    )
    add_file(parser, "receipt", summary="the launch receipt; - is standard input")
    add_file(parser, "--vm", summary="the file in which you keep the VM", required=True)
    add_coordinator(parser)


def run(args: argparse.Namespace) -> int:
    """Verify, and tell."""
    from tccp.protocol.launch_proof import RECEIPT_BYTES_MAX
    from tccp.tenant.launch import verify_launch
    from tccp.tenant.vm_file import read_vm_file

    trust = _trust(pinned_coordinator(args))
    content = read_file(args.receipt, bytes_max=RECEIPT_BYTES_MAX)
    launch = verify_launch(content, vm=read_vm_file(args.vm), trust=trust)
    if args.json:
        print_json(_document(launch))
    else:
        _show(args, launch)
    return exit_codes.OK


def _trust(pinned: "PinnedCoordinator") -> "CoordinatorTrust":
    from tccp.tenant.launch import CoordinatorTrust

    demands = pinned.demands
    return CoordinatorTrust(
        pinned.coordinator_id, pinned.origin, pinned.note_key, demands.witnesses, demands.witnesses_required
    )


def _show(args: argparse.Namespace, launch: "VerifiedLaunch") -> None:
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
            f"that boot says that it started the VM at {moment(proof.started_ms)}",
        ],
    )
    screen.list("not proved", NOT_PROVED)


def _document(launch: "VerifiedLaunch") -> dict[str, Any]:
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
        "released_ms": launch.released_ms,
        "started_ms": proof.started_ms,
        "log": {"origin": head.origin, "index": launch.release.index, "size": head.size, "root": head.root},
        "ek_certificate": launch.ek_certificate,
        "not_proved": list(NOT_PROVED),
    }
