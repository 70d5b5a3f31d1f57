"""``tccp coordinator watch``: what happens, as it happens."""

import argparse
import sys
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, number_from_zero
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, moment, plain, stream
from tccp.cli.exit_codes import UsageError
from tccp.cli.output import Screen, print_json

SHOWN_CHARACTERS = 200

if TYPE_CHECKING:
    from tccp.protocol.control import Event


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "watch",
        run,
        summary="show the coordinator's log, and what is added to it",
        about="With --json each line is one document. Ends with Ctrl-C, or (exit code 3) with the coordinator.",
        examples=(
            "tccp coordinator watch",
            "tccp coordinator watch --since 1200 --no-follow --json > events.jsonl",
            "tccp watch --kind revoke --kind told --kind refuse",
        ),
    )
    parser.add_argument(
        "--since", metavar="N", type=number_from_zero, default=0, help="begin after entry N (default: all entries)"
    )
    parser.add_argument(
        "--no-follow", dest="follow", action="store_false", help="stop when all that is there has been shown"
    )
    parser.add_argument(
        "--kind", metavar="KIND", action="append", default=[], help="only entries of this kind; may be given again"
    )
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Print each event as it comes."""
    from tccp.protocol.control import Event, WatchEvents
    from tccp.store import EventKind

    if unknown := set(args.kind) - {kind.value for kind in EventKind}:
        hint = f"There are: {', '.join(sorted(kind.value for kind in EventKind))}."
        raise UsageError("usage", f"--kind: there are no events of the kind {min(unknown)!r}", hint=hint)
    screen = Screen()
    for event in stream(args, WatchEvents(since=args.since, follow=args.follow), Event):
        if args.kind and event.kind not in args.kind:
            continue
        if args.json:
            print_json(plain(event), indent=None)
        else:
            screen.line(_line(event))
        sys.stdout.flush()
    return exit_codes.OK


def _line(event: "Event") -> str:
    fields = " ".join(f"{name}={_short(value)}" for name, value in event.fields.items())
    return f"{event.seq:>6}  {moment(event.at_ms)}  {event.kind:<10}  {event.node or '-'}  {fields}".rstrip()


def _short(value: str | int) -> str:
    """Hashes are shown whole; what is longer than two of them only as --json."""
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
