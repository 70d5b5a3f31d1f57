"""``tccp disk ask``: ask the process that serves a disk."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.disk.common import mark_bytes
from tccp.cli.output import Screen, print_json

WORDS = ("mark", "kept", "info", "compact")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "ask",
        run,
        summary="ask the process that serves a disk, while its clients go on",
        about="mark: the moment to demand (--not-before) at the next start, should this one end in a crash.\n"
        "kept: this mark is in a safe place; the disk remembers it, and otherwise the newest 63.\n"
        "info: what the disk says of itself. compact: give unused room back to the file system.",
        examples=("tccp disk ask /run/vm.sock mark", "tccp disk ask /run/vm.sock compact"),
    )
    add_file(parser, "socket", summary="the NBD socket of the disk")
    parser.add_argument("word", choices=WORDS, help="what to ask")
    parser.add_argument("mark", metavar="HEX", nargs="?", type=mark_bytes, help="the mark that is kept")


def run(args: argparse.Namespace) -> int:
    """Ask, and show the answer as it came."""
    from tccp.cli.exit_codes import UsageError
    from tccp.disk.asking import ask

    if (args.word == "kept") != (args.mark is not None):
        raise UsageError("usage", "a mark goes with `kept`, and with nothing else")
    answer = ask(args.socket, args.word, "" if args.mark is None else args.mark.hex())
    if args.json:
        print_json(answer)
    else:
        Screen().facts(f"{args.socket}: {args.word}", {name.replace("_", " "): str(answer[name]) for name in answer})
    return 0
