"""``tccp disk serve``: the process that serves one disk over NBD."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_output_file
from tccp.cli.disk.common import add_disk, key_descriptor
from tccp.cli.output import Screen, print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "serve",
        run,
        summary="serve a disk over NBD on a Unix socket",
        about="Runs until SIGTERM or SIGINT, writes everything, and prints the root to demand at the next start.\n"
        "With --json, the first document says that clients may connect, the second has the root.",
        examples=(
            "tccp disk serve vm.disk --key-fd 3 --socket /run/vm.sock --user qemu",
            "nbdinfo nbd+unix:///?socket=/run/vm.sock",
        ),
    )
    add_disk(parser)
    add_output_file(parser, "--socket", summary="where clients connect; only its owner can")
    parser.add_argument("--user", metavar="NAME", help="become this user, who also owns the socket")
    parser.add_argument("--read-only", action="store_true", help="write nothing to the disk")


def run(args: argparse.Namespace) -> int:
    """Serve, and report the root."""
    # Once confined, the process opens no files any more: what it may need in the end is imported before.
    import json  # noqa: F401
    import sys
    import traceback  # noqa: F401

    from tccp.cli.exit_codes import UsageError
    from tccp.disk.server import DiskService, serve_disk

    if args.socket is None:
        raise UsageError("usage", "--socket is missing")
    service = DiskService(
        disk=args.disk,
        key_descriptor=key_descriptor(args),
        socket=args.socket,
        base=args.base,
        root=args.root,
        not_before=args.not_before,
        read_only=args.read_only,
        user=args.user,
    )
    screen = Screen()

    def ready() -> None:
        if args.json:
            print_json({"ready": str(args.socket)}, indent=None)
        else:
            screen.line(f"{args.disk}: clients may connect to {args.socket}")
        sys.stdout.flush()

    root = serve_disk(service, ready)
    if args.json:
        print_json({"root": root}, indent=None)
    elif root is not None:
        screen.line(f"{args.disk}: root {root.hex()}")
    return 0
