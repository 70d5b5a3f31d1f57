"""``tccp coordinator revoke``: put a node out of the perimeter."""

import argparse

from tccp.cli.arguments import Commands, add_command, node_name, text_of
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask
from tccp.cli.coordinator.nodes import show_node


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "revoke",
        run,
        summary="put a node out of the perimeter, now and for ever",
        about="Its lease ends at once; its certificate is good for the rest of the lease at most. Whether the node\n"
        "heard of it follows in the log (`tccp coordinator watch`): left, silent, gone or away.",
        examples=(
            'tccp coordinator revoke rack1-07 --reason "sold, ticket 4711" --severity routine',
            'tccp coordinator revoke rack2-01 --reason "rootkit found" --severity compromised',
        ),
    )
    parser.add_argument("name", metavar="NAME", type=node_name, help="name of the node")
    parser.add_argument(
        "--reason", metavar="TEXT", type=text_of(256), required=True, help="why; it stands in the log for ever"
    )
    parser.add_argument(
        "--severity",
        choices=("routine", "serious", "compromised"),
        default="serious",
        help="what others should make of it; compromised: all that the node had is known to an attacker",
    )
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Revoke, and show the node as it stands in the record."""
    from tccp.protocol.control import NodeInfo, RevokeNode

    return show_node(args, ask(args, RevokeNode(args.name, args.reason, args.severity), NodeInfo))
