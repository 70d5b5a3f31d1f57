"""``tccp disk info``: what a disk says of itself."""

import argparse

from tccp.cli.arguments import Commands, add_command
from tccp.cli.disk.common import add_disk, opened
from tccp.cli.output import Screen, in_units, print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "info",
        run,
        summary="show what a disk says of itself",
        about="Nobody may be writing to it. Changes nothing; the contents are not verified (see `tccp disk check`).",
        examples=("tccp disk info vm.disk --key vm.key",),
    )
    add_disk(parser)


def run(args: argparse.Namespace) -> int:
    """Open it for reading, and report."""
    import dataclasses

    from tccp.core.image import SUITES

    with opened(args, read_only=True) as disk:
        info = disk.describe()
    if args.json:
        print_json(dataclasses.asdict(info))
        return 0
    facts = {
        "id": info.disk_id.hex(),
        "root": info.root.hex(),
        "mark": info.mark.hex(),
        "cipher": SUITES[info.suite],
        "size": in_units(info.size_bytes),
        "data": in_units(info.data_bytes),
        "discarded": in_units(info.zero_bytes),
        "base image": info.base_root.hex() if info.base_bytes else "none",
        "checkpoints": str(info.generation),
        "commits": str(info.sequence),
        "commits after the root": str(info.replayed),
    }
    screen = Screen()
    screen.facts(str(args.disk), facts)
    if info.dropped:
        screen.line("The last commit was torn by a crash, before any flush had answered.", style="warn")
    return 0
