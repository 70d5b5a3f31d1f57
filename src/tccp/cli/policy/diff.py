"""``tccp policy diff``: what another version of a policy allows more, and what less."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.output import Screen, print_json
from tccp.cli.policy.common import read_policy


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "diff",
        run,
        summary="say what a new version of a policy changes",
        about="Each change says whether the new version allows more or less than the old one.",
        examples=("tccp policy diff tvmm-1.toml tvmm-2.toml",),
    )
    add_file(parser, "old", summary="the policy as it is")
    add_file(parser, "new", summary="as it is to be")


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    from tccp.attestation.policy_diff import diff_policies

    changes = diff_policies(read_policy(args.old), read_policy(args.new))
    rows = [
        (
            "+" if change.is_added else "-",
            "more" if change.allows_more else "less",
            change.item.where,
            change.item.value,
        )
        for change in changes
    ]
    if args.json:
        keys = ("change", "allows", "where", "value")
        print_json({"changes": [dict(zip(keys, row, strict=True)) for row in rows]})
    elif rows:
        Screen().table(("", "allows", "where", "value"), rows)
    else:
        Screen().line("they allow the same")
    return exit_codes.OK
