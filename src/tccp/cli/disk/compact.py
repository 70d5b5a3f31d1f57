"""``tccp disk compact``: give unused room back to the file system."""

import argparse

from tccp.cli.arguments import Commands, add_command
from tccp.cli.disk.common import add_disk, opened
from tccp.cli.output import Screen, in_units, print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compact",
        run,
        summary="give the unused room of a disk back to the file system",
        about="Nobody may be using it; of a disk that is served, ask the process (`tccp disk ask`).\n"
        "Discards give room back as they come, overwriting does not.",
        examples=("tccp disk compact vm.disk --key vm.key",),
    )
    add_disk(parser)


def run(args: argparse.Namespace) -> int:
    """Punch holes, and report the new root."""
    before = args.disk.stat().st_blocks * 512
    with opened(args, read_only=False) as disk:
        disk.compact()
        root = disk.close()
    freed = max(before - args.disk.stat().st_blocks * 512, 0)
    if args.json:
        print_json({"freed_bytes": freed, "root": root})
    else:
        Screen().line(f"{args.disk}: {in_units(freed)} given back, root {root.hex()}")
    return 0
