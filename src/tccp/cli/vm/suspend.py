"""``tccp vm suspend`` and ``resume``: a VM stands still in a file, and goes on from it."""

import argparse
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import COMPLETE_FILES, Commands, add_command, add_file, add_output_file
from tccp.cli.control import NODE_SOCKET, add_socket, stream
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, find_vm
from tccp.cli.vm.launch import TICKET_FILE_BYTES_MAX, follow_start
from tccp.errors import HostError, RefusedError


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    suspend = add_command(
        commands,
        "suspend",
        run_suspend,
        summary="write a VM to a file, and end it",
        about="Memory, devices and vTPM go into one encrypted file in the node's state folder, and its name is\n"
        "told. The VM is suspended once the coordinator has that on record; if the file cannot be written, it runs on.",
        examples=("tccp vm suspend 5d4c",),
    )
    add_vm(suspend)
    resume = add_command(
        commands,
        "resume",
        run_resume,
        summary="have a suspended VM go on, on this node",
        about="With the ticket that started it, the file of its newest state, and its images; once. On another node\n"
        "than before, its live disks must be in that node's state folder first: copy them, they are encrypted.",
        examples=("tccp vm resume web.ticket /var/lib/tccp/vms/5d4c.../suspended-1.sealed web.sealed",),
    )
    add_file(resume, "ticket", summary="the ticket that started it last")
    add_file(resume, "state", summary="its suspended state")
    images = resume.add_argument(
        "images", metavar="IMAGE", type=Path, nargs="+", help="the sealed images that the ticket names"
    )
    images.complete = COMPLETE_FILES  # type: ignore[attr-defined]
    add_output_file(resume, "--receipt", summary="where to write the launch receipt, for the tenant")
    for parser in (suspend, resume):
        add_socket(parser, NODE_SOCKET)


def run_suspend(args: argparse.Namespace) -> int:
    """Suspend it, and wait until that is on record."""
    from tccp.protocol.vm_control import SuspendVm, VmInfo

    vm = find_vm(args)
    for info in stream(args, SuspendVm(vm.vm_id), VmInfo):
        vm = info
    if vm.state in {"suspending", "recording"}:
        raise HostError("daemon_gone", "the daemon went away before the VM was suspended")
    if vm.state != "suspended":
        reason = vm.reason or "not_suspended"
        raise RefusedError(reason, vm.detail or f"the VM is {vm.state}", hint=vm.hint)
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()} is suspended: {vm.saved}")
    return exit_codes.OK


def run_resume(args: argparse.Namespace) -> int:
    """Resume, and tell each step."""
    from tccp.protocol.vm_control import ResumeVm

    ticket = read_file(args.ticket, bytes_max=TICKET_FILE_BYTES_MAX)
    paths = tuple(str(path.resolve()) for path in args.images)
    return follow_start(args, ResumeVm(ticket=ticket, state=str(args.state.resolve()), images=paths))
