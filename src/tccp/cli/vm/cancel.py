"""``tccp vm cancel``: give up a move, or a start."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, find_vm, settled
from tccp.errors import RefusedError


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "cancel",
        run,
        summary="give up a move or a start",
        about="At either end of a move: the VM goes on where it was, and what has come of it elsewhere is wiped.\n"
        "Once all of it has come, the move is over within moments and cannot be given up any more.",
        examples=("tccp vm cancel 5d4c",),
    )
    add_vm(parser)
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Cancel, and wait until that is settled."""
    from tccp.protocol.vm_control import CancelVm

    vm = settled(args, CancelVm(find_vm(args).vm_id))
    if vm.state == "moved":
        raise RefusedError("too_late", f"{vm.vm_id.hex()} has moved")
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()}: given up; it {'goes on here' if vm.state == 'running' else 'is not here'}")
    return exit_codes.OK
