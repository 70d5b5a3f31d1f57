"""``tccp node status``: is this node admitted, and if not, why?"""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket, ask, moment, plain
from tccp.cli.output import Screen, print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "status",
        run,
        summary="show whether this node is admitted, and if not, why",
        about="Asks the node's daemon; needs its viewer group, or root.",
        examples=("tccp node status", "tccp node status --json | jq -r .state"),
    )
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Ask, and show."""
    from tccp.protocol.control import GetStatus, NodeStatus

    status = ask(args, GetStatus(), NodeStatus)
    if args.json:
        print_json(plain(status))
        return exit_codes.OK
    screen = Screen()
    screen.facts(
        f"node {status.name}",
        {
            "state": status.state,
            "software": status.software,
            "started": moment(status.started_ms),
            "coordinator": f"{status.coordinator}, id {status.coordinator_id.hex()}",
            "boot": status.boot_id.hex(),
            "EK": status.ek_id.hex(),
            "TPM": status.tpm,
        },
    )
    if status.lease_id:
        screen.facts(
            "lease",
            {
                "id": status.lease_id.hex(),
                "left": f"{status.lease_left_s} s",
                "renewed": f"{status.renewals} times",
            },
        )
    if status.last_error:
        screen.facts(
            "last error",
            {
                "what": status.last_error,
                "hint": status.last_error_hint or "-",
                "next attempt": f"in {status.retry_in_s} s" if status.retry_in_s else "-",
            },
        )
    return exit_codes.OK
