"""``tccp vm receive``: take over a running VM from the node where it runs."""

import argparse
from pathlib import Path

from tccp.cli.arguments import COMPLETE_FILES, Commands, add_command, add_file, add_output_file
from tccp.cli.control import NODE_SOCKET, add_socket
from tccp.cli.files import read_file
from tccp.cli.vm.launch import TICKET_FILE_BYTES_MAX, follow_start


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "receive",
        run,
        summary="take over a running VM from the node where it runs",
        about="On the node where it is to go, with the ticket that started it and its images. The VM is sent while it\n"
        "runs, and goes on here once its node has wiped it. Ctrl-C before that leaves it where it is. A VM with disks\n"
        "does not move; suspend it.",
        examples=("tccp vm receive web.ticket web.sealed --receipt web.receipt",),
    )
    add_file(parser, "ticket", summary="the ticket that started it last")
    images = parser.add_argument(
        "images", metavar="IMAGE", type=Path, nargs="+", help="the sealed images that the ticket names"
    )
    images.complete = COMPLETE_FILES  # type: ignore[attr-defined]
    add_output_file(parser, "--receipt", summary="where to write the launch receipt, for the tenant")
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Receive, and tell each step."""
    from tccp.protocol.vm_control import ReceiveVm

    ticket = read_file(args.ticket, bytes_max=TICKET_FILE_BYTES_MAX)
    paths = tuple(str(path.resolve()) for path in args.images)
    return follow_start(args, ReceiveVm(ticket=ticket, images=paths))
