"""``tccp coordinator policy add|try|list|show|shadow``: what a platform must be."""

import argparse
import sys
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_group, number_from_zero, text_of
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, moment, plain
from tccp.cli.coordinator import shadow
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json
from tccp.cli.policy.common import SIGNED_POLICY_BYTES_MAX
from tccp.printable import escape

if TYPE_CHECKING:
    from tccp.protocol.control import PolicyInfo

ABOUT_ADD = """\
The newest version of a name is in force; older ones stay in the record. Both kinds are taken, measured-boot
policies (`tccp policy learn` writes one) and PCR values; where the coordinator's configuration names operators, one of
them must have signed the policy (`tccp policy sign`). A complete policy of PCR values:

  name = "tvmm-2026"
  version = 1
  description = "Debian 12 TVMM, firmware 2.4"
  bank = "sha256"

  [pcrs]                      # every PCR listed must have one of its values
  0 = ["<64 hex digits>"]
  7 = ["<64 hex digits>", "<64 hex digits>"]"""


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(
        commands, "policy", summary="add, list and show policies", examples=("tccp coordinator policy list",)
    )
    add = add_command(
        group,
        "add",
        run_add,
        summary="put a policy in force",
        about=ABOUT_ADD,
        examples=("tccp coordinator policy add tvmm-2026.toml", "tccp coordinator policy add tvmm-2027.signed"),
    )
    add_file(add, "file", summary="the policy, TOML, signed or not; - is standard input")
    trial = add_command(
        group,
        "try",
        run_try,
        summary="show whom a policy would refuse, and decide nothing",
        about="Every connected node that the policy of this name judges quotes for the one that is tried. It must be\n"
        "signed if `add` wants that. No lease is touched. The exit code is 1 if it would refuse a node.",
        examples=("tccp coordinator policy try tvmm-2027.toml",),
    )
    add_file(trial, "file", summary="the policy, TOML, signed or not; - is standard input")
    listing = add_command(
        group,
        "list",
        run_list,
        summary="list all versions of all policies",
        about="With how many nodes are judged by each.",
        examples=("tccp coordinator policy list",),
    )
    show = add_command(
        group,
        "show",
        run_show,
        summary="print a policy as its author wrote it",
        about="The version in force unless another is asked for.",
        examples=("tccp coordinator policy show tvmm-2026 > tvmm-2026.toml",),
    )
    show.add_argument("name", metavar="NAME", type=text_of(63), help="name of the policy")
    show.add_argument("--version", metavar="N", type=number_from_zero, default=0, help="which version of it")
    shadow.add_parser(group)
    for parser in (add, trial, listing, show):
        add_socket(parser, COORDINATOR_SOCKET)


def run_add(args: argparse.Namespace) -> int:
    """Hand the file over."""
    from tccp.protocol.control import AddPolicy, PolicyInfo

    policy = ask(args, AddPolicy(read_file(args.file, bytes_max=SIGNED_POLICY_BYTES_MAX)), PolicyInfo)
    if args.json:
        print_json(_document(policy))
    else:
        Screen().line(f"policy {policy.name} version {policy.version} is in force (sha256 {policy.sha256.hex()})")
    return exit_codes.OK


def run_try(args: argparse.Namespace) -> int:
    """Have it tried, and show the verdicts."""
    from tccp.protocol.control import PolicyTrial, TryPolicy

    trial = ask(args, TryPolicy(read_file(args.file, bytes_max=SIGNED_POLICY_BYTES_MAX)), PolicyTrial)
    refused = any(node.verdict == "refused" for node in trial.nodes)
    if args.json:
        print_json(plain(trial))
    else:
        Screen().table(
            ("name", "verdict", "why"),
            [
                (
                    node.node,
                    node.verdict,
                    f"{node.reason}: {node.detail}" if node.reason else "; ".join(node.warnings) or "-",
                )
                for node in trial.nodes
            ],
            style_column=1,
        )
    return exit_codes.REFUSED if refused else exit_codes.OK


def run_list(args: argparse.Namespace) -> int:
    """List all."""
    from tccp.protocol.control import ListPolicies, Policies

    answer = ask(args, ListPolicies(), Policies)
    if args.json:
        print_json({"policies": [_document(policy) for policy in answer.policies]})
        return exit_codes.OK
    Screen().table(
        ("name", "version", "in force", "nodes", "added", "sha256"),
        [
            (
                policy.name,
                str(policy.version),
                "yes" if policy.in_force else "no",
                str(policy.nodes),
                moment(policy.added_ms),
                policy.sha256.hex(),
            )
            for policy in answer.policies
        ],
    )
    return exit_codes.OK


def run_show(args: argparse.Namespace) -> int:
    """Print one, byte for byte into a file, escaped on a terminal."""
    from tccp.protocol.control import PolicyInfo, ShowPolicy

    policy = ask(args, ShowPolicy(args.name, args.version), PolicyInfo)
    if args.json:
        print_json(_document(policy))
    elif sys.stdout.isatty():
        for line in policy.body.decode("utf-8", "replace").split("\n"):
            print(escape(line))
    else:
        sys.stdout.buffer.write(policy.body)
    return exit_codes.OK


def _document(policy: "PolicyInfo") -> dict[str, object]:
    """A policy is text, and stays text in JSON."""
    return plain(policy) | {"body": policy.body.decode("utf-8", "replace")}
