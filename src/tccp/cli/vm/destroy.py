"""``tccp vm destroy`` and ``verify-destruction``: nothing is left of a VM, and its tenant can verify that."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_output_file
from tccp.cli.control import NODE_SOCKET, add_socket, ask, moment
from tccp.cli.files import PUBLIC_MODE, read_file, refuse_existing, write_new
from tccp.cli.output import Screen, print_json
from tccp.cli.ticket.pinned import add_coordinator, pinned_coordinator
from tccp.cli.vm.common import add_vm, document, find_vm, not_so, settled

NOT_PROVED = (
    "that nobody has a copy of what was outside of the node: sealed images, and encrypted files that were copied away",
    "anything about whoever holds the hardware, or a fault in firmware or kernel that the policy allows",
)


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    destroy = add_command(
        commands,
        "destroy",
        run_destroy,
        summary="end a VM for ever, and wipe all that this node has of it",
        about="Keys, memory, vTPM, live disks and suspended states; there is no way back. The node signs that, the\n"
        "coordinator records it and releases the VM's keys to nobody any more. Sealed images stay where they are.",
        examples=("tccp vm destroy 5d4c --receipt web.destroyed",),
    )
    add_vm(destroy)
    add_output_file(destroy, "--receipt", summary="where to write the receipt, for the tenant")
    add_socket(destroy, NODE_SOCKET)
    verify = add_command(
        commands,
        "verify-destruction",
        run_verify,
        summary="verify the receipt of a destruction, and say what it proves",
        about="Offline: with the VM's file and what `tccp trust` has pinned.",
        examples=("tccp vm verify-destruction web.destroyed --vm web.vm",),
    )
    add_file(verify, "receipt", summary="the receipt; - is standard input")
    add_file(verify, "--vm", summary="the file in which you keep the VM", required=True)
    add_coordinator(verify)


def run_destroy(args: argparse.Namespace) -> int:
    """Destroy it, and write the receipt."""
    from tccp.protocol.vm_control import DestroyVm, DestructionReceiptFile, GetDestructionReceipt

    refuse_existing(args.receipt)
    vm = settled(args, DestroyVm(find_vm(args).vm_id))
    if vm.state != "destroyed":
        raise not_so(vm, "not_destroyed")
    if args.receipt is not None:
        receipt = ask(args, GetDestructionReceipt(vm.vm_id), DestructionReceiptFile)
        write_new(args.receipt, receipt.body, PUBLIC_MODE)
    if args.json:
        print_json(document(vm))
    else:
        Screen().line(f"VM {vm.vm_id.hex()} is destroyed")
    return exit_codes.OK


def run_verify(args: argparse.Namespace) -> int:
    """Verify, and tell."""
    from tccp.protocol.launch_proof import RECEIPT_BYTES_MAX
    from tccp.tenant.destruction import verify_destruction
    from tccp.tenant.pinned_log import pinned_log_of
    from tccp.tenant.vm_file import read_vm_file

    trust = pinned_log_of(pinned_coordinator(args))
    content = read_file(args.receipt, bytes_max=RECEIPT_BYTES_MAX)
    found = verify_destruction(content, vm_id=read_vm_file(args.vm).vm_id, trust=trust)
    said, head = found.destruction, found.entry.checkpoint.checkpoint
    if args.json:
        print_json(
            {
                "verdict": "accepted",
                "vm_id": said.vm_id,
                "epoch": said.epoch,
                "node": found.node,
                "boot_id": said.boot_id,
                "destroyed_ms": said.destroyed_ms,
                "recorded_ms": found.entry.at_ms,
                "log": {"origin": head.origin, "index": found.entry.index, "size": head.size, "root": head.root},
                "not_proved": list(NOT_PROVED),
            }
        )
        return exit_codes.OK
    screen = Screen()
    screen.line(f"{args.receipt}: accepted", style="accepted")
    screen.list(
        "proved",
        [
            f"node {found.node}, which had VM {said.vm_id.hex()} last, in epoch {said.epoch}, has signed in the boot "
            f"{said.boot_id.hex()[:16]} that it wiped all that it had of it, at {moment(said.destroyed_ms)}",
            f"the coordinator recorded that at {moment(found.entry.at_ms)}, and releases its keys to nobody any more",
            f"the record is entry {found.entry.index} of its log of {head.size} entries, and can never be denied",
        ],
    )
    screen.list("not proved", NOT_PROVED)
    return exit_codes.OK
