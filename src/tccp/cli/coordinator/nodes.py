"""``tccp coordinator nodes`` and ``node show|policy``: the perimeter record and who of it is admitted."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_group, node_name
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, moment, plain, remaining
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.protocol.control import NodeInfo


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    listing = add_command(
        commands,
        "nodes",
        run,
        summary="list the enrolled nodes and their leases",
        about="States: enrolled (known, no lease now), admitted (holds a lease), revoked (out for ever).",
        examples=("tccp coordinator nodes", "tccp coordinator nodes --json | jq -r '.nodes[].name'"),
    )
    add_socket(listing, COORDINATOR_SOCKET)
    group = add_group(
        commands, "node", summary="show or change one node", examples=("tccp coordinator node show rack1-07",)
    )
    show = add_command(
        group,
        "show",
        run_show,
        summary="show all that is known of one node",
        about="Also why it was refused the last time, if it was.",
        examples=("tccp coordinator node show rack1-07",),
    )
    policy = add_command(
        group,
        "policy",
        run_policy,
        summary="judge a node by another policy",
        about="Takes effect with the next evidence of the node, at its next renewal at the latest.",
        examples=("tccp coordinator node policy rack1-07 tvmm-2026",),
    )
    for parser in (show, policy):
        parser.add_argument("name", metavar="NAME", type=node_name, help="name of the node")
        add_socket(parser, COORDINATOR_SOCKET)
    policy.add_argument("policy", metavar="POLICY", help="name of the policy")


def run(args: argparse.Namespace) -> int:
    """List the nodes."""
    from tccp.protocol.control import ListNodes, Nodes

    answer = ask(args, ListNodes(), Nodes)
    if args.json:
        print_json(plain(answer))
        return exit_codes.OK
    Screen().table(
        ("name", "state", "connected", "policy", "lease ends in", "address", "last refusal"),
        [
            (
                node.name,
                node.state,
                "yes" if node.connected else "no",
                _policy(node),
                remaining(node.expires_ms),
                node.address or "-",
                node.last_refusal or "-",
            )
            for node in answer.nodes
        ],
        style_column=1,
    )
    return exit_codes.OK


def run_show(args: argparse.Namespace) -> int:
    """Show one node."""
    from tccp.protocol.control import NodeInfo, ShowNode

    return show_node(args, ask(args, ShowNode(args.name), NodeInfo))


def run_policy(args: argparse.Namespace) -> int:
    """Give a node another policy."""
    from tccp.protocol.control import NodeInfo, SetNodePolicy

    return show_node(args, ask(args, SetNodePolicy(args.name, args.policy), NodeInfo))


def show_node(args: argparse.Namespace, node: "NodeInfo") -> int:
    """Print one node; returns the exit code."""
    if args.json:
        print_json(plain(node))
        return exit_codes.OK
    screen = Screen()
    screen.facts(
        f"node {node.name}",
        {
            "state": node.state,
            "revoked because": node.revoke_reason or "-",
            "connected": f"yes, from {node.address}" if node.connected else "no",
            "EK": node.ek_id.hex(),
            "enrolled": moment(node.enrolled_ms),
            "policy": _policy(node),
            **{f"attribute {name}": value for name, value in sorted(node.attributes.items())},
        },
    )
    if node.lease_id:
        screen.facts(
            "lease",
            {
                "id": node.lease_id.hex(),
                "admitted": moment(node.admitted_ms),
                "renewed": moment(node.renewed_ms),
                "ends": f"{moment(node.expires_ms)}, in {remaining(node.expires_ms)}",
                "boot": f"{node.boot_id.hex()}, TPM reset {node.reset_count}, restart {node.restart_count}",
            },
        )
    screen.list("its policy warns", list(node.warnings), style="warn")
    if node.last_refusal:
        screen.facts("last refusal", {"at": moment(node.last_refusal_ms), "why": node.last_refusal})
    return exit_codes.OK


def _policy(node: "NodeInfo") -> str:
    return f"{node.policy} version {node.policy_version}" if node.policy_version else node.policy
