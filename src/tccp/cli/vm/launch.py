"""``tccp vm launch``: start the VM of a ticket on this node."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import COMPLETE_FILES, Commands, Parser, add_command, add_file, add_output_file
from tccp.cli.control import NODE_SOCKET, add_socket, ask, stream
from tccp.cli.files import PUBLIC_MODE, read_file, refuse_existing, write_new
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import document, facts, not_so
from tccp.cli.vm.transfer import Follower
from tccp.errors import HostError, TccpError

if TYPE_CHECKING:
    from tccp.protocol.vm_control import LaunchVm, ReceiveVm, ResumeVm, VmInfo

STEPS = {
    "checking": "looking at the ticket and the images",
    "asking": "asking the coordinator for the keys",
    "starting": "starting the machine",
    "arriving": "taking it in from its node, where it runs meanwhile",
    "arrived": "it is here, and waits until nothing is left there",
    "running": "it runs",
}


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "launch",
        run,
        summary="start the VM of a ticket on this node",
        about="The images are found by the roots that the ticket names, in whatever order they stand here. Nothing\n"
        "is secret of what you hand over. Ctrl-C before it runs gives the launch up; afterwards the VM goes on.",
        examples=("tccp vm launch web.ticket web.sealed --receipt web.receipt",),
    )
    add_file(parser, "ticket", summary="the ticket")
    add_images(parser, summary="the sealed images that it names")
    add_output_file(parser, "--receipt", summary="where to write the launch receipt, for the tenant")
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Launch, tell each step, and write the receipt."""
    from tccp.protocol.vm_control import LaunchVm

    ticket, images = ticket_and_images(args)
    return follow_start(args, LaunchVm(ticket=ticket, images=images))


def add_images(parser: Parser, *, summary: str) -> None:
    """The images of a ticket, in any order."""
    images = parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help=summary)
    images.complete = COMPLETE_FILES  # type: ignore[attr-defined]


def ticket_and_images(args: argparse.Namespace) -> tuple[bytes, tuple[str, ...]]:
    """What the daemon is given: the ticket's bytes, and absolute paths."""
    from tccp.protocol.fields import TICKET_FILE_BYTES_MAX

    ticket = read_file(args.ticket, bytes_max=TICKET_FILE_BYTES_MAX)
    return ticket, tuple(str(path.resolve()) for path in args.images)


def follow_start(args: argparse.Namespace, request: "LaunchVm | ResumeVm | ReceiveVm") -> int:
    """Say *request*, tell each step until the VM runs, and write the receipt."""
    from tccp.protocol.vm_control import VmInfo

    refuse_existing(args.receipt)
    vm: VmInfo | None = None
    follower = Follower(STEPS, as_json=args.json)
    try:
        for vm in stream(args, request, VmInfo):
            follower.show(vm)
            if vm.state in {"running", "ended", "failed"}:
                break
    finally:
        follower.close()
    if vm is None:
        raise HostError("wrong_answer", "the daemon said nothing of the VM")
    if vm.state != "running":
        raise not_so(vm, "not_started")
    if args.receipt is not None:
        _write_receipt(args, vm)
    if args.json and vm.transfer is None:  # else it was the last line already
        print_json(document(vm))
    elif not args.json:
        Screen().facts(f"VM {vm.vm_id.hex()}", facts(vm))
    return exit_codes.OK


def _write_receipt(args: argparse.Namespace, vm: "VmInfo") -> None:
    from tccp.protocol.vm_control import GetLaunchReceipt, LaunchReceiptFile

    receipt = ask(args, GetLaunchReceipt(vm.vm_id), LaunchReceiptFile)
    try:
        write_new(args.receipt, receipt.body, PUBLIC_MODE)
    except TccpError as error:
        hint = f"The VM runs; `tccp vm receipt {vm.vm_id.hex()[:12]} FILE` writes its receipt elsewhere."
        raise type(error)(error.reason, error.detail, hint=hint) from error
