"""``tccp trust show|list|remove``: what is pinned."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import moment
from tccp.cli.output import Screen, print_json
from tccp.cli.trust.common import add_store, document, facts, store_of


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    show = add_command(
        commands,
        "show",
        run_show,
        summary="show what is pinned of a coordinator",
        about="Nobody is asked; `tccp trust check` asks it.",
        examples=("tccp trust show ete", "tccp trust show --json | jq -r .release_key"),
    )
    listing = add_command(
        commands,
        "list",
        run_list,
        summary="list the pinned coordinators",
        about="Nobody is asked.",
        examples=("tccp trust list",),
    )
    remove = add_command(
        commands,
        "remove",
        run_remove,
        summary="forget a coordinator",
        about="Also which entries of its log were seen: who gets the name next may have another history.",
        examples=("tccp trust remove ete",),
    )
    show.add_argument("name", metavar="NAME", nargs="?", help="which one (default: the only one)")
    remove.add_argument("name", metavar="NAME", help="which one")
    for parser in (show, listing, remove):
        add_store(parser)


def run_show(args: argparse.Namespace) -> int:
    """Show one."""
    pinned = store_of(args).load(args.name)
    if args.json:
        print_json({**document(pinned), "policy": pinned.policy})
    else:
        Screen().facts(pinned.name, facts(pinned))
    return exit_codes.OK


def run_list(args: argparse.Namespace) -> int:
    """List all."""
    store = store_of(args)
    every = [store.load(name) for name in store.names()]
    if args.json:
        print_json({"coordinators": [document(pinned) for pinned in every]})
        return exit_codes.OK
    Screen().table(
        ("name", "address", "entries seen", "checked", "coordinator id"),
        [
            (each.name, each.address, str(each.head.size), moment(1000 * each.checked_s), each.coordinator_id.hex())
            for each in every
        ],
    )
    return exit_codes.OK


def run_remove(args: argparse.Namespace) -> int:
    """Forget one."""
    store = store_of(args)
    with store.locked(args.name):
        pinned = store.load(args.name)
        store.remove(args.name)
    if args.json:
        print_json({"removed": document(pinned)})
    else:
        Screen().line(f"{args.name} is no longer pinned")
    return exit_codes.OK
