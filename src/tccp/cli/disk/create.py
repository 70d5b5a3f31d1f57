"""``tccp disk create``: make a disk."""

import argparse
import os
from pathlib import Path

from tccp.cli.arguments import Commands, add_command
from tccp.cli.disk.common import add_disk, disk_key, root_bytes, size_bytes
from tccp.cli.output import Screen, in_units, print_json
from tccp.errors import HostError


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "create",
        run,
        summary="make a disk, empty or over a sealed image",
        about="The file must not exist. It is sparse: it takes the room of what is written, up to an eighth more,\n"
        "and 64 MiB for the log.",
        examples=(
            "(umask 077 && head -c 32 /dev/urandom > vm.key)",
            "tccp disk create vm.disk --size 20G --key vm.key",
            "tccp disk create vm.disk --base vm.sealed --key vm.key",
        ),
    )
    add_disk(parser, root=False)
    parser.add_argument(
        "--size", metavar="SIZE", type=size_bytes, help="of the disk, such as 20G (default: the base's)"
    )
    parser.add_argument("--base-root", metavar="HEX", type=root_bytes, help="refuse another base image than this")
    parser.add_argument(
        "--log", metavar="SIZE", type=size_bytes, default=64 << 20, help="of the log, from 64K on (default: 64M)"
    )


def run(args: argparse.Namespace) -> int:
    """Make it; leave nothing behind when that fails."""
    from tccp.cli.exit_codes import UsageError
    from tccp.core.disk import create_disk
    from tccp.disk.file import open_base

    path: Path = args.disk
    if not 64 << 10 <= args.log <= 4 << 30:
        raise UsageError("usage", "--log: from 64K to 4G")
    with disk_key(args) as key, open_base(args.base, key, root=args.base_root) as base:
        smallest = 0 if base is None else base.size_bytes
        size = args.size or smallest
        if size == 0:
            raise UsageError("usage", "--size or --base is needed")
        if size < smallest:
            raise UsageError("usage", f"--size: the base has {in_units(smallest)}")
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError("cannot_create", f"{path}: {error.strerror}") from error
        try:
            create_disk(file, key, size, base=base, log_bytes=args.log)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(file)
    if args.json:
        print_json({"disk": str(path), "size_bytes": size})
    else:
        Screen().line(f"{path}: a new disk of {in_units(size)}")
    return 0
