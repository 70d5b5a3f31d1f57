"""``tccp vm receive``: take over a running VM from the node where it runs."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_file, add_output_file
from tccp.cli.control import NODE_SOCKET, add_socket
from tccp.cli.vm.launch import add_images, follow_start, ticket_and_images


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "receive",
        run,
        summary="take over a running VM from the node where it runs",
        about="On the node where it is to go, with the ticket that started it and its images. The VM is sent while it\n"
        "runs, and goes on here once its node has wiped it; how far it is, is shown on standard error, or with --json\n"
        "as one document a line, the last of which says what it took. Ctrl-C leaves it where it is, until all is here.",
        examples=("tccp vm receive web.ticket web.sealed --receipt web.receipt",),
    )
    add_file(parser, "ticket", summary="the ticket that started it last")
    add_images(parser, summary="the sealed images that the ticket names")
    add_output_file(parser, "--receipt", summary="where to write the launch receipt, for the tenant")
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Receive, and tell each step."""
    from tccp.protocol.vm_control import ReceiveVm

    ticket, images = ticket_and_images(args)
    return follow_start(args, ReceiveVm(ticket=ticket, images=images))
