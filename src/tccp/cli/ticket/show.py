"""``tccp ticket show``: what a ticket says, and whether its tenant signed it."""

import argparse
from typing import TYPE_CHECKING, Any

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.control import moment, plain
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.protocol.ticket import VerifiedTicket


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "show",
        run,
        summary="show what a ticket says",
        about="The signature is checked against the tenant's key that the ticket names; who that is, you must know.",
        examples=("tccp ticket show web.ticket", "tccp ticket show web.ticket --json | jq .images"),
    )
    add_file(parser, "ticket", summary="the ticket; - is standard input")


def run(args: argparse.Namespace) -> int:
    """Verify and show."""
    from tccp.protocol.fields import TICKET_FILE_BYTES_MAX
    from tccp.protocol.ticket import read_ticket_file, verify_ticket

    signed = read_ticket_file(read_file(args.ticket, bytes_max=TICKET_FILE_BYTES_MAX))
    verified = verify_ticket(signed.ticket, signed.signature)
    if args.json:
        print_json(document(verified))
    else:
        screen = Screen()
        screen.line(f"{args.ticket}: signed by the tenant whom it names")
        screen.facts("says", facts(verified))
    return exit_codes.OK


def document(verified: "VerifiedTicket") -> dict[str, Any]:
    """A ticket for programs."""
    return {"sha256": verified.sha256, **plain(verified.ticket)}


def facts(verified: "VerifiedTicket") -> list[tuple[str, str]]:
    """A ticket for people."""
    ticket, shape = verified.ticket, verified.ticket.shape
    attested = [f"{name}={value}" for name, value in sorted(ticket.policy.attested.items())]
    demands = [f"{name}={value}" for name, value in sorted(ticket.attributes.items())]
    return [
        ("ticket", verified.sha256.hex()),
        ("tenant", ticket.tenant_key.hex()),
        ("coordinator", ticket.coordinator_id.hex()),
        ("VM", ticket.vm_id.hex()),
        ("valid", f"{moment(1000 * ticket.not_before_s)} to {moment(1000 * ticket.not_after_s)}"),
        ("machine", f"{shape.vcpus} vcpus, {shape.memory_mib} MiB, {shape.firmware} boot"),
        *([("command line", shape.cmdline)] if shape.cmdline else []),
        *([("networks", " ".join(shape.networks))] if shape.networks else []),
        *((f"{image.role} image", image.root.hex()) for image in ticket.images),
        *([("disk", "in whatever state it is found")] if ticket.disk_state == "any" else []),
        *([("allows", " ".join(ticket.permissions))] if ticket.permissions else []),
        ("node", f"policy {ticket.policy.name} version {ticket.policy.version_min} or later"),
        *([("node attests", " ".join(attested))] if attested else []),
        *([("node has", " ".join(demands))] if demands else []),
    ]
