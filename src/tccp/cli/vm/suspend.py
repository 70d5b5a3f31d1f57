"""``tccp vm suspend`` and ``resume``: a VM stands still in a file, and goes on from it."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_output_file
from tccp.cli.control import NODE_SOCKET, add_socket
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, find_vm, not_so, settled
from tccp.cli.vm.launch import add_images, follow_start, ticket_and_images


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
        examples=("tccp vm resume web.ticket /var/lib/tccp/node/vms/5d4c.../suspended-1.sealed web.sealed",),
    )
    add_file(resume, "ticket", summary="the ticket that started it last")
    add_file(resume, "state", summary="its suspended state")
    add_images(resume, summary="the sealed images that the ticket names")
    add_output_file(resume, "--receipt", summary="where to write the launch receipt, for the tenant")
    for parser in (suspend, resume):
        add_socket(parser, NODE_SOCKET)


def run_suspend(args: argparse.Namespace) -> int:
    """Suspend it, and wait until that is on record."""
    from tccp.protocol.vm_control import SuspendVm

    vm = settled(args, SuspendVm(find_vm(args).vm_id))
    if vm.state != "suspended":
        raise not_so(vm, "not_suspended")
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()} is suspended: {vm.saved}")
    return exit_codes.OK


def run_resume(args: argparse.Namespace) -> int:
    """Resume, and tell each step."""
    from tccp.protocol.vm_control import ResumeVm

    ticket, images = ticket_and_images(args)
    return follow_start(args, ResumeVm(ticket=ticket, state=str(args.state.resolve()), images=images))
