"""``tccp vm stop``: end a VM."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket, stream
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, find_vm, not_so


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "stop",
        run,
        summary="end a VM",
        about="Its guest is asked to shut down, and this waits until it has; Ctrl-C stops the waiting only. Its keys\n"
        "are wiped, the coordinator is told, and only another ticket starts it again.",
        examples=("tccp vm stop 5d4c", "tccp vm stop 5d4c --force"),
    )
    add_vm(parser)
    parser.add_argument("--force", action="store_true", help="pull the plug instead of asking the guest")
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Stop it, and wait."""
    from tccp.protocol.vm_control import StopVm, VmInfo

    vm = find_vm(args)
    for info in stream(args, StopVm(vm.vm_id, args.force), VmInfo):
        vm = info
        if vm.ended_ms:
            break
    else:
        raise not_so(vm, "not_stopped")
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()} has ended: {vm.reason}")
    return exit_codes.OK
