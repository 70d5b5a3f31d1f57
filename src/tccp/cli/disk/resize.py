"""``tccp disk resize``: make a disk larger."""

import argparse

from tccp.cli.arguments import Commands, add_command
from tccp.cli.disk.common import add_disk, opened, size_bytes
from tccp.cli.output import Screen, in_units, print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "resize",
        run,
        summary="make a disk larger",
        about="Nobody may be using it. A disk never shrinks: what a guest has there is not ours to judge.",
        examples=("tccp disk resize vm.disk --size 40G --key vm.key",),
    )
    add_disk(parser)
    parser.add_argument("--size", metavar="SIZE", type=size_bytes, required=True, help="the new size, such as 40G")


def run(args: argparse.Namespace) -> int:
    """Grow, and report the new root."""
    from tccp.cli.exit_codes import UsageError

    with opened(args, read_only=False) as disk:
        now = disk.describe().size_bytes
        if args.size < now:
            raise UsageError("usage", f"--size: the disk has {in_units(now)} already, and never shrinks")
        disk.grow(args.size)
        root = disk.close()
    if args.json:
        print_json({"size_bytes": args.size, "root": root})
    else:
        Screen().line(f"{args.disk}: {in_units(args.size)}, root {root.hex()}")
    return 0
