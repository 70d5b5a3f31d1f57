"""``tccp policy predict``: what will be measured of a kernel before any host has booted it."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, number_from_zero, unicode_text
from tccp.cli.exit_codes import UsageError
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.attestation.boot_predict import PredictedEvent

FILE_BYTES_MAX = 1 << 30


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "predict",
        run,
        summary="say what will be measured of a kernel, initrd and command line",
        about="Prints the digests that a measured-boot policy would list. They depend on the way of booting:\n"
        "  stub   firmware, systemd-boot or a newer GRUB start the kernel's own EFI stub\n"
        "  grub   GRUB reads the files itself; the command line then begins with the kernel's path\n"
        "  qemu   QEMU hands the kernel over (-kernel); needs --memory, the machine's memory in MiB\n"
        "The firmware's own events, and what else GRUB reads and runs, are learned from a host (`tccp policy learn`).",
        examples=(
            "tccp policy predict --kernel vmlinuz --initrd initrd.img --command-line 'ro lockdown=integrity'",
            "tccp policy predict --uki linux.efi",
        ),
    )
    add_file(parser, "--kernel", summary="the kernel")
    add_file(parser, "--initrd", summary="the initrd")
    add_file(parser, "--uki", summary="a unified kernel image, instead of the others")
    parser.add_argument("--command-line", metavar="TEXT", type=unicode_text, default="", help="the command line, whole")
    parser.add_argument("--boot", choices=("stub", "grub", "qemu"), default="stub", help="the way (default: stub)")
    parser.add_argument("--memory", metavar="MIB", type=number_from_zero, default=0, help="memory of QEMU's machine")
    parser.add_argument("--bank", choices=("sha256", "sha384", "sha512"), default="sha256", help="PCR bank")


def run(args: argparse.Namespace) -> int:
    """Predict and print."""
    events = _events(args)
    if args.json:
        print_json({"events": [_document(event) for event in events]})
        return exit_codes.OK
    screen = Screen()
    for event in events:
        line = f"  {event.line}" if event.line else ""
        screen.line(f"PCR {event.pcr:<2}  {event.digest.hex()}  [{event.section}] {event.title}{line}")
    return exit_codes.OK


def _events(args: argparse.Namespace) -> "tuple[PredictedEvent, ...]":
    from tccp.attestation.boot_predict import BootFiles, BootPath, predict_boot, predict_unified
    from tccp.model import PcrBank

    bank = PcrBank.from_name(args.bank)
    if (args.uki is None) == (args.kernel is None):
        raise UsageError("usage", "either --kernel or --uki is needed")
    if args.uki is not None:
        if args.initrd is not None or args.command_line or args.memory or args.boot != "stub":
            raise UsageError("usage", "--uki stands alone: initrd and command line are inside of it")
        return predict_unified(read_file(args.uki, bytes_max=FILE_BYTES_MAX), bank)
    path = BootPath(args.boot)
    if (path is BootPath.QEMU) != bool(args.memory):
        raise UsageError("usage", "--memory belongs to --boot qemu, which needs it")
    files = BootFiles(
        kernel=read_file(args.kernel, bytes_max=FILE_BYTES_MAX),
        initrd=read_file(args.initrd, bytes_max=FILE_BYTES_MAX) if args.initrd is not None else b"",
        command_line=args.command_line,
        memory_mib=args.memory,
    )
    return predict_boot(files, path, bank)


def _document(event: "PredictedEvent") -> dict[str, object]:
    from tccp.attestation.event_data import event_type_name

    return {
        "section": event.section,
        "pcr": event.pcr,
        "type": event_type_name(event.event_type),
        "digest": event.digest,
        "title": event.title,
        **({"line": event.line} if event.line else {}),
    }
