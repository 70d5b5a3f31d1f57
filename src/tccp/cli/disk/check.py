"""``tccp disk check``: prove every block."""

import argparse

from tccp.cli.arguments import Commands, add_command
from tccp.cli.disk.common import add_disk, opened
from tccp.cli.output import Screen, in_units, print_json
from tccp.errors import DiskError

STEP_BLOCKS = 16384


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "check",
        run,
        summary="verify every block of a disk, and its root",
        about="Nobody may be writing to it. Changes nothing.",
        examples=("tccp disk check vm.disk --key vm.key", "tccp disk check vm.disk --key vm.key --json"),
    )
    add_disk(parser)


def run(args: argparse.Namespace) -> int:
    """Verify in steps, so that Ctrl-C ends it."""
    from tccp.core.disk import BLOCK_BYTES

    bad, first_bad = 0, None
    with opened(args, read_only=True) as disk:
        info = disk.describe()
        blocks = info.size_bytes // BLOCK_BYTES
        for block in range(0, blocks, STEP_BLOCKS):
            found, where = disk.verify(block, min(STEP_BLOCKS, blocks - block))
            if found and first_bad is None:
                first_bad = where
            bad += found
    if bad:
        raise DiskError("disk_corrupt", f"{bad} of {blocks} blocks do not verify, the first is block {first_bad}")
    if args.json:
        print_json({"root": info.root, "size_bytes": info.size_bytes, "bad_blocks": 0})
    else:
        Screen().line(f"{args.disk}: all {in_units(info.size_bytes)} verify, root {info.root.hex()}", style="accepted")
    return 0
