"""``tccp log show|tail``: what happened, as everybody may read it."""

import argparse
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, number_from_zero
from tccp.cli.control import moment
from tccp.cli.log.common import (
    OpenLog,
    add_log,
    compare_with_seen,
    entry_document,
    open_log,
    root_text,
    values,
    verify_head,
)
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.transparency.entry import LogEntry

ENTRIES_SHOWN = 20
PAUSE_S = 2.0


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    show = add_command(
        commands,
        "show",
        run_show,
        summary="show the head of a log, and its last entries",
        about="Whom an entry concerns is known to them alone, by their receipts; what stands here is for everybody.\n"
        "Each entry that is shown was proved to be in the log.",
        examples=("tccp log show", "tccp log show --first 0 --count 100 --json", "tccp log show --log ./copy"),
    )
    show.add_argument("--first", metavar="N", type=number_from_zero, help="from this entry on (default: the last ones)")
    show.add_argument(
        "--count", metavar="N", type=number_from_zero, default=ENTRIES_SHOWN, help="how many (default: %(default)s)"
    )
    tail = add_command(
        commands,
        "tail",
        run_tail,
        summary="print entries as they come",
        about="Until interrupted. Each new head must continue the one before; with --json, one document a line.",
        examples=("tccp log tail", "tccp log tail --json | jq -c .kind"),
    )
    tail.add_argument("--first", metavar="N", type=number_from_zero, help="from this entry on (default: the next one)")
    tail.add_argument("--count", metavar="N", type=number_from_zero, help="end after so many entries")
    for parser in (show, tail):
        add_log(parser)


def run_show(args: argparse.Namespace) -> int:
    """Show the head and some entries."""
    with open_log(args) as log:
        compare_with_seen(log)
        size = log.head.checkpoint.size
        first = max(0, size - args.count) if args.first is None else args.first
        entries = list(_proved(log, first, min(size, first + args.count)))
    head = log.head
    if args.json:
        print_json(
            {
                "origin": head.checkpoint.origin,
                "size": size,
                "root": head.checkpoint.root,
                "witnessed": {key.name: at_s for key, at_s in head.witnessed_s.items()},
                "entries": [entry_document(index, entry) for index, entry in entries],
            }
        )
        return exit_codes.OK
    screen = Screen()
    screen.facts(
        head.checkpoint.origin,
        {
            "entries": str(size),
            "root": root_text(head.checkpoint.root),
            "witnessed by": ", ".join(key.name for key in head.witnessed_s) or "nobody that your policy names",
        },
    )
    rows = [(str(index), moment(entry.at_ms), entry.kind, values(entry.public_values())) for index, entry in entries]
    if rows:
        screen.table(("entry", "time", "kind", "what everybody may read"), rows)
    return exit_codes.OK


def run_tail(args: argparse.Namespace) -> int:
    """Follow the log."""
    left = args.count
    with open_log(args) as log:
        compare_with_seen(log)
        size = log.head.checkpoint.size
        at = size if args.first is None else args.first
        while left is None or left > 0:
            end = size if left is None else min(size, at + left)
            if at < end:
                _print(args, log, at, end)
                left = left if left is None else left - (end - at)
                at = end
            elif not _advance(log):
                time.sleep(PAUSE_S)
            size = log.head.checkpoint.size
    return exit_codes.OK


def _advance(log: OpenLog) -> bool:
    """Take over a new head, if there is one and it continues the last; whether there was."""
    from tccp.tenant.trust import continue_log

    note, old = log.source.read_checkpoint(), log.head.checkpoint
    if note is None or (new := verify_head(note, log.key, log.pinned)).checkpoint == old:
        return False
    continue_log(log.source.read_tile, old, new)
    log.head = new
    return True


def _proved(log: OpenLog, first: int, end: int) -> "Iterator[tuple[int, LogEntry]]":
    """Entries, each of which leads to the root of the head."""
    from tccp.tenant.log_source import read_entries
    from tccp.transparency.entry import decode_entry
    from tccp.transparency.proof import TileHashes, prove_inclusion, verify_inclusion

    head = log.head.checkpoint
    hashes = TileHashes(log.source.read_tile, head.size)
    for index, entry in read_entries(log.source, head.size, first):
        if index >= end:
            return
        path = prove_inclusion(hashes, index)
        verify_inclusion(entry, index, size=head.size, root=head.root, path=path)
        yield index, decode_entry(entry)


def _print(args: argparse.Namespace, log: OpenLog, first: int, end: int) -> None:
    screen = Screen()
    for index, entry in _proved(log, first, end):
        if args.json:
            print_json(entry_document(index, entry), indent=None)
        else:
            screen.line(f"{index}  {moment(entry.at_ms)}  {entry.kind}  {values(entry.public_values())}")
    sys.stdout.flush()
