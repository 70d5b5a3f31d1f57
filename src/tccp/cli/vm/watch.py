"""``tccp vm watch``: what happens to the VMs of this node, as it happens."""

import argparse
import sys

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket, stream
from tccp.cli.output import Screen, print_json
from tccp.cli.vm.common import document


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "watch",
        run,
        summary="show the VMs of this node, and each step that one takes",
        about="With --json each line is one document. Ends with Ctrl-C, or (exit code 3) with the daemon.",
        examples=("tccp vm watch", "tccp vm watch --json >> vms.jsonl"),
    )
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Print each as it comes."""
    from tccp.protocol.vm_control import VmInfo, WatchVms

    screen = Screen()
    for vm in stream(args, WatchVms(), VmInfo):
        if args.json:
            print_json(document(vm), indent=None)
        else:
            screen.line(f"{vm.vm_id.hex()}  {vm.state:<8}  {vm.reason} {vm.detail}".rstrip())
        sys.stdout.flush()
    return exit_codes.OK
