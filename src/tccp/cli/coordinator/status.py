"""``tccp coordinator status``: is it well, and what has it done."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, moment, plain
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.protocol.control import WitnessSeen


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "status",
        run,
        summary="show what the coordinator is doing",
        about="The counters run since it was started.",
        examples=("tccp coordinator status", "tccp coordinator status --json | jq .leases_open"),
    )
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Ask, and show."""
    from tccp.protocol.control import CoordinatorStatus, GetStatus

    status = ask(args, GetStatus(), CoordinatorStatus)
    if args.json:
        print_json(plain(status))
        return exit_codes.OK
    Screen().facts(
        "coordinator",
        {
            "id": status.coordinator_id.hex(),
            "software": status.software,
            "started": moment(status.started_ms),
            "listening": f"{status.listening} for nodes, {status.tenants_listening} for tenants",
            "TPM": status.tpm,
            "EK authorities": str(status.ek_authorities),
            "nodes": f"{status.nodes_enrolled} enrolled, {status.nodes_revoked} revoked, "
            f"{status.nodes_connected} connected",
            "leases": f"{status.leases_open} open, {status.lease_s} s each",
            "policies": str(status.policies),
            "since the start": f"{status.registrations} registrations, {status.renewals} renewals, "
            f"{status.refusals} refusals",
            "log": f"{status.log_size} entries",
            **{f"witness {witness.name}": _seen(witness) for witness in status.witnesses},
        },
    )
    return exit_codes.OK


def _seen(witness: "WitnessSeen") -> str:
    if not witness.size:
        return "has cosigned nothing since the start"
    return f"cosigned {witness.size} entries at {moment(1000 * witness.at_s)}"
