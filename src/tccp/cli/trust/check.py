"""``tccp trust check``: does a pinned coordinator still prove what it proved, and does its log only grow?"""

import argparse

from tccp.cli.arguments import Commands, add_command
from tccp.cli.trust.common import add_store, store_of, tell


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "check",
        run,
        summary="have a pinned coordinator prove itself again",
        about="Everything that was proved when it was pinned, and that its log continues what was seen then.\n"
        "Run it now and then (a timer): it is by looking that two histories are found.",
        examples=("tccp trust check", "tccp trust check ete --json"),
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="which one (default: the only one)")
    add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Check, remember the new head of the log, and say what was proved."""
    from tccp.tenant.trust import check_trust

    return tell(args, check_trust(store_of(args), args.name), "it is still the one that was pinned")
