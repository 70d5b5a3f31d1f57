"""``tccp vm list``, ``show`` and ``receipt``: the VMs of this node."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.control import NODE_SOCKET, add_socket, ask, moment, plain
from tccp.cli.files import PUBLIC_MODE, write_new
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import add_vm, document, facts, find_vm
from tccp.cli.vm.transfer import brief


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    listing = add_command(
        commands,
        "list",
        run_list,
        summary="list the VMs of this node, and what an earlier daemon has left of others",
        about="The newest first. States: checking, asking, starting, running, stopping, ended, failed;\n"
        "suspending, recording, suspended; moving, recording, moved; arriving, arrived; destroying, destroyed.",
        examples=("tccp vm list", "tccp vm list --json | jq -r '.vms[].state'"),
    )
    show = add_command(
        commands,
        "show",
        run_show,
        summary="show one VM",
        about="Also why it ended, if it has.",
        examples=("tccp vm show 5d4c",),
    )
    receipt = add_command(
        commands,
        "receipt",
        run_receipt,
        summary="write the launch receipt of a VM, for its tenant",
        about="Nothing in it is secret: the tenant verifies it with `tccp vm verify`.",
        examples=("tccp vm receipt 5d4c web.receipt",),
    )
    add_vm(show)
    add_vm(receipt)
    add_file(receipt, "out", summary="where to write it")
    for parser in (listing, show, receipt):
        add_socket(parser, NODE_SOCKET)


def run_list(args: argparse.Namespace) -> int:
    """List."""
    from tccp.protocol.vm_control import ListVms, Vms

    answer = ask(args, ListVms(), Vms)
    if args.json:
        print_json(plain(answer))
        return exit_codes.OK
    rows = [
        (
            vm.vm_id.hex(),
            vm.state,
            str(vm.vcpus),
            f"{vm.memory_mib} MiB",
            moment(vm.started_ms),
            brief(vm),
            vm.reason or "-",
        )
        for vm in answer.vms
    ]
    Screen().table(("vm", "state", "vcpus", "memory", "started", "move", "because"), rows, style_column=1)
    return exit_codes.OK


def run_show(args: argparse.Namespace) -> int:
    """Show one."""
    vm = find_vm(args)
    if args.json:
        print_json(document(vm))
    else:
        Screen().facts(f"VM {vm.vm_id.hex()}", facts(vm))
    return exit_codes.OK


def run_receipt(args: argparse.Namespace) -> int:
    """Write the receipt."""
    from tccp.protocol.vm_control import GetLaunchReceipt, LaunchReceiptFile

    vm = find_vm(args)
    receipt = ask(args, GetLaunchReceipt(vm.vm_id), LaunchReceiptFile)
    write_new(args.out, receipt.body, PUBLIC_MODE)
    if args.json:
        print_json({"vm_id": vm.vm_id, "file": str(args.out)})
    else:
        Screen().line(f"{args.out}: the launch receipt of {vm.vm_id.hex()}")
    return exit_codes.OK
