"""``tccp vm snapshot``: keep the state of a VM that goes on."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, find_vm, not_so, settled


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "snapshot",
        run,
        summary="keep the state of a VM, which goes on",
        about="Where its ticket allows it (--allow-rollback). The VM is suspended to a file, with copies of its disks\n"
        "beside it, and resumed at once; it stands still meanwhile. `tccp vm resume` goes back to that state later.",
        examples=("tccp vm snapshot 5d4c",),
    )
    add_vm(parser)
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Keep it, and wait until the VM goes on."""
    from tccp.protocol.vm_control import SnapshotVm

    before = find_vm(args)
    vm = settled(args, SnapshotVm(before.vm_id))
    if vm.state != "running":
        raise not_so(vm, "not_resumed")
    if vm.epoch == before.epoch:
        raise not_so(vm, "not_suspended")
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()} goes on, and can go back to {vm.saved}")
    return exit_codes.OK
