"""``tccp vm snapshot``: keep the state of a VM that goes on."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket, stream
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, find_vm
from tccp.errors import HostError, RefusedError


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
    from tccp.protocol.vm_control import SnapshotVm, VmInfo

    before = vm = find_vm(args)
    for info in stream(args, SnapshotVm(before.vm_id), VmInfo):
        vm = info
    if vm.state not in {"running", "ended", "failed", "suspended"}:
        raise HostError("daemon_gone", "the daemon went away before the VM went on")
    if vm.state != "running" or vm.epoch == before.epoch:
        reason = vm.reason if vm.state != "running" else "not_suspended"
        raise RefusedError(reason or "not_resumed", vm.detail or f"the VM is {vm.state}", hint=vm.hint)
    if not vm.saved:
        raise RefusedError("disks_not_kept", vm.detail, hint="The VM goes on. Make room for a copy of its disks.")
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()} goes on, and can go back to {vm.saved}")
    return exit_codes.OK
