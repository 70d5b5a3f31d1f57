"""``tccp log prove``: a receipt for an entry, or a newer one for a receipt."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_output_file
from tccp.cli.files import PUBLIC_MODE, read_file, write_file
from tccp.cli.log.common import OpenLog, add_log, compare_with_seen, open_log
from tccp.cli.output import Screen, print_json
from tccp.errors import EvidenceError, LogError

if TYPE_CHECKING:
    from tccp.transparency.receipt import Receipt


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "prove",
        run,
        summary="prove that an entry is in the log as it is now",
        about="Given a number: a receipt of that entry, which shows what everybody may read.\n"
        "Given a receipt: the same with its details, under the newest head, and so with the newest cosignatures.",
        examples=("tccp log prove 17 --output 17.receipt", "tccp log prove old.receipt --output new.receipt"),
    )
    parser.add_argument("what", metavar="ENTRY|RECEIPT", help="the number of an entry, or the file of a receipt")
    add_output_file(parser, "--output", summary="where the receipt goes")
    add_log(parser)


def run(args: argparse.Namespace) -> int:
    """Prove, verify the proof, and write it."""
    from tccp.transparency.receipt import encode_receipt, verify_receipt

    with open_log(args) as log:
        compare_with_seen(log)
        old = _old_receipt(args.what)
        receipt = _renewed(log, old) if old else _receipt_of(log, int(args.what))
    encoded = encode_receipt(receipt)
    verified = verify_receipt(encoded, origin=log.key.name, log_key=log.key)
    if args.output:
        write_file(args.output, encoded, PUBLIC_MODE)
    size = verified.checkpoint.checkpoint.size
    if args.json:
        print_json({"index": verified.index, "kind": verified.kind, "size": size, "receipt": encoded})
    else:
        screen = Screen()
        screen.line(f"entry {verified.index} ({verified.kind}) is in the log of {size} entries", style="accepted")
        if args.output:
            screen.line(f"written to {args.output}")
    return exit_codes.OK


def _old_receipt(what: str) -> "Receipt | None":
    from tccp.transparency.receipt import RECEIPT_BYTES_MAX, decode_receipt

    if what.isascii() and what.isdecimal() and len(what) < 19:
        return None
    return decode_receipt(read_file(Path(what), bytes_max=RECEIPT_BYTES_MAX))


def _receipt_of(log: OpenLog, index: int) -> "Receipt":
    from tccp.tenant.log_source import read_entries
    from tccp.transparency.receipt import Receipt

    size = log.head.checkpoint.size
    found = next(read_entries(log.source, size, index), None) if index < size else None
    if found is None:
        raise LogError("not_in_tree", f"entry {index} of {size}")
    return Receipt(found[1], index, b"", b"", _path(log, index), log.head.note.encode())


def _renewed(log: OpenLog, old: "Receipt") -> "Receipt":
    from dataclasses import replace

    if old.index >= log.head.checkpoint.size:
        raise LogError("rollback", f"the log has {log.head.checkpoint.size} entries, the receipt is of {old.index}")
    return replace(old, path=_path(log, old.index), checkpoint=log.head.note.encode())


def _path(log: OpenLog, index: int) -> tuple[bytes, ...]:
    from tccp.transparency.proof import TileHashes, prove_inclusion

    try:
        return tuple(prove_inclusion(TileHashes(log.source.read_tile, log.head.checkpoint.size), index))
    except EvidenceError as problem:
        raise LogError(problem.reason, problem.detail, hint="What is served there is not a whole log.") from None
