"""``tccp coordinator policy shadow``: versions of policies that judge beside the one in force, and decide nothing."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, Parser, Run, add_command, add_file, add_group, text_of
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, moment, plain
from tccp.cli.output import Screen, print_json
from tccp.cli.policy.common import policy_file
from tccp.errors import RefusedError

if TYPE_CHECKING:
    from tccp.protocol.shadow_control import ShadowInfo

ABOUT_ADD = """\
It must be newer than the version in force, and signed if `policy add` wants that. From then on, also after a
restart of the coordinator, it judges every registration and every renewal beside the version in force, by the same
quote, and nobody's lease depends on what it says. It takes the place of a version that is in the shadow already."""
ABOUT_REPORT = """\
Those that it would refuse come first, with the reason. A node that is waiting has not quoted since the version was
put there, or since the coordinator was started. The exit code is 1 if it would refuse a node."""


def add_parser(commands: Commands) -> None:
    """Add the group."""
    group = add_group(
        commands,
        "shadow",
        summary="have a new version judge beside the one in force, and then take its place",
        examples=(
            "tccp coordinator policy shadow add tvmm-2.toml",
            "tccp coordinator policy shadow report tvmm",
            "tccp coordinator policy shadow promote tvmm",
        ),
    )
    add = add_command(
        group,
        "add",
        run_add,
        summary="put a version into the shadow of the one in force",
        about=ABOUT_ADD,
        examples=("tccp coordinator policy shadow add tvmm-2.signed",),
    )
    add_file(add, "file", summary="the policy, TOML, signed or not; - is standard input")
    listing = add_command(
        group,
        "list",
        run_list,
        summary="list the versions in a shadow",
        about="With how many nodes each would accept and refuse.",
        examples=("tccp coordinator policy shadow list",),
    )
    report = _add_named(
        group,
        "report",
        run_report,
        summary="show whom the version in the shadow would refuse, and why",
        about=ABOUT_REPORT,
    )
    promote = _add_named(
        group,
        "promote",
        run_promote,
        summary="put the version in the shadow in force",
        about="In one transaction, and only the very version whose hash is shown. Nodes quote again at once; what was\n"
        "judged of their boots counts, so that none has to show its logs again.",
    )
    drop = _add_named(
        group,
        "drop",
        run_drop,
        summary="forget the version in the shadow",
        about="Nothing else changes: nobody's lease depends on it.",
    )
    for parser in (add, listing, report, promote, drop):
        add_socket(parser, COORDINATOR_SOCKET)


def _add_named(group: Commands, name: str, run: Run, *, summary: str, about: str) -> Parser:
    example = f"tccp coordinator policy shadow {name} tvmm"
    parser = add_command(group, name, run, summary=summary, about=about, examples=(example,))
    parser.add_argument("name", metavar="NAME", type=text_of(63), help="name of the policy")
    return parser


def run_add(args: argparse.Namespace) -> int:
    """Hand the file over."""
    from tccp.protocol.shadow_control import AddShadow, ShadowInfo

    shadow = ask(args, AddShadow(policy_file(args.file)), ShadowInfo)
    return _show(args, shadow, f"judges in the shadow of version {shadow.in_force}")


def run_list(args: argparse.Namespace) -> int:
    """List all."""
    from tccp.protocol.shadow_control import ListShadows, Shadows

    answer = ask(args, ListShadows(), Shadows)
    if args.json:
        print_json(plain(answer))
        return exit_codes.OK
    Screen().table(
        ("name", "version", "in force", "accepts", "refuses", "silent", "since", "sha256"),
        [
            (
                each.name,
                str(each.version),
                str(each.in_force),
                str(each.accepted),
                str(each.refused),
                str(each.silent),
                moment(each.since_ms),
                each.sha256.hex(),
            )
            for each in answer.shadows
        ],
    )
    return exit_codes.OK


def run_report(args: argparse.Namespace) -> int:
    """Show what it says of each node."""
    from tccp.protocol.shadow_control import ReportShadow, ShadowReport

    report = ask(args, ReportShadow(args.name), ShadowReport)
    refused = any(node.verdict == "refused" for node in report.nodes)
    if args.json:
        print_json(plain(report))
    else:
        Screen().table(
            ("name", "verdict", "now", "judged", "why"),
            [
                (
                    node.node,
                    node.verdict,
                    node.now,
                    moment(node.at_ms) if node.at_ms else "-",
                    f"{node.reason}: {node.detail}" if node.reason else "; ".join(node.warnings) or "-",
                )
                for node in report.nodes
            ],
            style_column=1,
        )
    return exit_codes.REFUSED if refused else exit_codes.OK


def run_promote(args: argparse.Namespace) -> int:
    """Put in force the one that is there now: what another administrator puts there meanwhile is not meant."""
    from tccp.protocol.shadow_control import ListShadows, PromoteShadow, ShadowInfo, Shadows

    there = {each.name: each for each in ask(args, ListShadows(), Shadows).shadows}
    if args.name not in there:
        raise RefusedError("no_shadow", f"{args.name}: no version is in its shadow")
    shadow = ask(args, PromoteShadow(args.name, there[args.name].sha256), ShadowInfo)
    return _show(args, shadow, f"is in force, as version {shadow.in_force} was; it would have refused {shadow.refused}")


def run_drop(args: argparse.Namespace) -> int:
    """Drop it."""
    from tccp.protocol.shadow_control import DropShadow, ShadowInfo

    return _show(args, ask(args, DropShadow(args.name), ShadowInfo), "no longer judges")


def _show(args: argparse.Namespace, shadow: "ShadowInfo", what: str) -> int:
    if args.json:
        print_json(plain(shadow))
    else:
        Screen().line(f"policy {shadow.name} version {shadow.version} {what} (sha256 {shadow.sha256.hex()})")
    return exit_codes.OK
