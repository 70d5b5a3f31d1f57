"""``tccp disk ask``: ask the process that serves a disk."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.output import Screen, print_json

WORDS = ("mark", "info", "compact")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "ask",
        run,
        summary="ask the process that serves a disk, while its clients go on",
        about="mark: the moment to demand (--not-before) at the next start, should this one end in a crash.\n"
        "info: what the disk says of itself. compact: give unused room back to the file system.",
        examples=("tccp disk ask /run/vm.sock mark", "tccp disk ask /run/vm.sock compact"),
    )
    add_file(parser, "socket", summary="the NBD socket of the disk")
    parser.add_argument("word", choices=WORDS, help="what to ask")


def run(args: argparse.Namespace) -> int:
    """Ask, and show the answer as it came."""
    from tccp.disk.asking import ask

    answer = ask(args.socket, args.word)
    if args.json:
        print_json(answer)
    else:
        Screen().facts(f"{args.socket}: {args.word}", {name.replace("_", " "): str(answer[name]) for name in answer})
    return 0
