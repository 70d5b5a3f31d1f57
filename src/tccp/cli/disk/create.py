"""``tccp disk create``: make an empty disk."""

import argparse
import os
from pathlib import Path

from tccp.cli.arguments import Commands, add_command
from tccp.cli.disk.common import add_disk, disk_key, in_units, size_bytes
from tccp.cli.output import Screen, print_json
from tccp.errors import HostError


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "create",
        run,
        summary="make an empty disk",
        about="The file must not exist. It is sparse: it takes the room of what is written, and 64 MiB for the log.",
        examples=(
            "head -c 32 /dev/urandom > vm.key",
            "tccp disk create vm.disk --size 20G --key vm.key",
        ),
    )
    add_disk(parser, root=False)
    parser.add_argument("--size", metavar="SIZE", type=size_bytes, required=True, help="of the disk, such as 20G")
    parser.add_argument(
        "--log", metavar="SIZE", type=size_bytes, default=64 << 20, help="of the log, from 64K on (default: 64M)"
    )


def run(args: argparse.Namespace) -> int:
    """Make it; leave nothing behind when that fails."""
    from tccp.cli.exit_codes import UsageError
    from tccp.core.disk import create_disk

    path: Path = args.disk
    if not 64 << 10 <= args.log <= 4 << 30:
        raise UsageError("usage", "--log: from 64K to 4G")
    with disk_key(args) as key:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError("cannot_create", f"{path}: {error.strerror}") from error
        try:
            create_disk(file, key, args.size, log_bytes=args.log)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(file)
    if args.json:
        print_json({"disk": str(path), "size_bytes": args.size})
    else:
        Screen().line(f"{path}: an empty disk of {in_units(args.size)}")
    return 0
