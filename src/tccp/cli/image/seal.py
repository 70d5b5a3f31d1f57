"""``tccp image seal``: encrypt a VM image to its recipients and sign it."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.exit_codes import UsageError
from tccp.cli.files import STDIN
from tccp.cli.image.arguments import refuse_json_on_stdout
from tccp.cli.key_files import add_secret
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.image.output import NewFile

FORMATS = ("raw", "qcow2", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc")
READABLE = 0o644


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "seal",
        run,
        summary="encrypt a VM image to its recipients, and sign it",
        about="IN is a raw image, a qcow2 image, what else QEMU reads (with --format), or - for a pipe. OUT appears\n"
        "when it is complete, in place of what was there; until then, and whatever happens, there is nothing.\n"
        "With - for OUT it goes to standard output when it is complete. Holes and zeros take no room.",
        examples=(
            "tccp image seal disk.qcow2 disk.sealed --to node.pub --sign tenant.key",
            "qemu-img convert -O raw vm.vmdk /dev/shm/vm && tccp image seal /dev/shm/vm vm.sealed --to me.pub",
            "zcat disk.gz | tccp image seal - disk.sealed --to node.pub --to me.pub",
        ),
    )
    add_file(parser, "image", summary="the image to seal; - is standard input")
    add_file(parser, "out", summary="the sealed image; - is standard output")
    parser.add_argument(
        "--to",
        metavar="FILE",
        type=Path,
        action="append",
        required=True,
        help="public key of a recipient; several times",
    )
    add_secret(parser, "--sign", summary="secret key of the tenant, to sign the image")
    parser.add_argument("--format", choices=FORMATS, help="format of IN (default: qcow2 if it begins so, else raw)")


def run(args: argparse.Namespace) -> int:
    """Seal."""
    from tccp.cli.image.describe import document, facts
    from tccp.cli.image.progress import progress_bar
    from tccp.cli.key_files import recipients_public, tenant_secret
    from tccp.image.sealed import read_sealed_image, seal_image
    from tccp.image.source import open_source

    refuse_json_on_stdout(args.out, args)
    recipients = recipients_public(args.to)
    tenant = tenant_secret(args.sign) if args.sign is not None else None
    _refuse_same_file(args.image, args.out)
    with open_source(args.image, args.format) as source, _target(args.out) as (target, file):
        with progress_bar("sealing", as_json=args.json) as watch:
            info = seal_image(source.descriptor, target, recipients, tenant=tenant, watch=watch)
        source.check(info.size)
        entries = read_sealed_image(target).recipients
        if file is not None:
            file.publish()
        else:
            _send(target)
            return exit_codes.OK
    if args.json:
        print_json(document(info, entries))
    else:
        screen = Screen()
        screen.line(f"{args.out}: sealed")
        screen.facts("image", facts(info, entries))
    return exit_codes.OK


def _refuse_same_file(image: Path, out: Path) -> None:
    with contextlib.suppress(OSError):
        if out.samefile(image):
            raise UsageError("usage", f"{out} is both what to seal and where to")


@contextlib.contextmanager
def _target(path: Path) -> Iterator[tuple[int, "NewFile | None"]]:
    """Where to write: a new file, or, for standard output, a temporary one to be sent when it is complete."""
    from tccp.image.output import new_file, spool

    if path == STDIN:
        with spool() as descriptor:
            yield descriptor, None
    else:
        with new_file(path, mode=READABLE) as file:
            yield file.descriptor, file


def _send(descriptor: int) -> None:
    from tccp.image.output import copy_to_end

    os.lseek(descriptor, 0, os.SEEK_SET)
    sys.stdout.flush()
    copy_to_end(descriptor, sys.stdout.fileno())
