"""``tccp coordinator nodes`` and ``node show|policy|attribute``: the perimeter record and who of it is admitted."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import (
    Commands,
    add_command,
    add_demands,
    add_group,
    attribute_name,
    attribute_pair,
    node_name,
    text_of,
)
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, moment, plain, remaining
from tccp.cli.exit_codes import UsageError
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
        about="States: enrolled (known, no lease now), refused (the same, and was refused since the coordinator was\n"
        "started), admitted (holds a lease), revoked (out for ever).\n"
        "Attributes are attested (they follow from the evidence of a node that is connected) or asserted by whoever\n"
        "enrolled it.",
        examples=(
            "tccp coordinator nodes",
            "tccp coordinator nodes --json | jq -r '.nodes[].name'",
            "tccp coordinator nodes --attested location=delft --attribute gpu=yes",
        ),
    )
    add_demands(listing, attribute="only nodes of which this is said", attested="only nodes whose evidence says so")
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
    attribute = add_command(
        group,
        "attribute",
        run_attribute,
        summary="assert something of a node, or stop doing so",
        about="Tenants may ask for it in tickets, unless they want it attested. VMs that run there go on; the next\n"
        "release of keys, also for a resumption or a move, depends on it.",
        examples=(
            "tccp coordinator node attribute rack1-07 --set site=delft --set gpu=yes",
            "tccp coordinator node attribute rack1-07 --remove gpu",
        ),
    )
    attribute.add_argument(
        "--set", metavar="NAME=VALUE", type=attribute_pair, action="append", default=[], help="say so"
    )
    attribute.add_argument(
        "--remove", metavar="NAME", type=attribute_name, action="append", default=[], help="stop asserting it"
    )
    for parser in (show, policy, attribute):
        parser.add_argument("name", metavar="NAME", type=node_name, help="name of the node")
        add_socket(parser, COORDINATOR_SOCKET)
    policy.add_argument("policy", metavar="POLICY", type=text_of(63), help="name of the policy")


def run(args: argparse.Namespace) -> int:
    """List the nodes."""
    from tccp.protocol.control import ListNodes, Nodes

    answer = ask(args, ListNodes(), Nodes)
    nodes = [node for node in answer.nodes if _has(node, args)]
    if args.json:
        print_json({"nodes": [plain(node) for node in nodes]})
        return exit_codes.OK
    Screen().table(
        ("name", "state", "connected", "policy", "lease ends in", "address", "attributes", "last refusal"),
        [
            (
                node.name,
                node.state,
                "yes" if node.connected else "no",
                _policy(node),
                remaining(node.expires_ms),
                node.address or "-",
                _attributes(node),
                node.last_refusal or "-",
            )
            for node in nodes
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


def run_attribute(args: argparse.Namespace) -> int:
    """Assert something else of a node."""
    from tccp.protocol.control import NodeInfo, SetNodeAttributes

    said = dict(args.set)
    if len(said) < len(args.set) or not said.keys().isdisjoint(args.remove):
        raise UsageError("usage", "a name is given twice")
    if not (said or args.remove):
        raise UsageError("usage", "nothing to change: give --set or --remove")
    return show_node(args, ask(args, SetNodeAttributes(args.name, said, tuple(args.remove)), NodeInfo))


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
            **{f"{name}, attested": value for name, value in sorted(node.attested.items())},
            **{
                f"{name}, asserted": value + (" (does not count)" if name in node.attested else "")
                for name, value in sorted(node.attributes.items())
            },
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


def _has(node: "NodeInfo", args: argparse.Namespace) -> bool:
    counts = {**node.attributes, **node.attested}
    return all(counts.get(name) == value for name, value in args.attribute) and all(
        node.attested.get(name) == value for name, value in args.attested
    )


def _attributes(node: "NodeInfo") -> str:
    asserted = {name: value for name, value in node.attributes.items() if name not in node.attested}
    kinds = (("attested", node.attested), ("asserted", asserted))
    parts = [
        f"{kind} {', '.join(f'{name}={value}' for name, value in sorted(said.items()))}" for kind, said in kinds if said
    ]
    return "; ".join(parts) or "-"
