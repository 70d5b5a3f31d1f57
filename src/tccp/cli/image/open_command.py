"""``tccp image open``: decrypt a sealed image."""

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.files import STDIN
from tccp.cli.image.arguments import (
    add_checks,
    check_identity,
    refuse_json_on_stdout,
    sealed_image,
    unlock,
)
from tccp.cli.key_files import add_secret
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.core.image import ImageKey
    from tccp.image.job import Watch
    from tccp.image.sealed import SealedImage


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "open",
        run,
        summary="decrypt a sealed image",
        about="Nothing of a chunk is written before it was verified. OUT appears when the whole image was, in place\n"
        "of what was there; a pipe or - gets verified chunks in order, and the exit code says whether all came.\n"
        "Without --tenant or --root it is known to be undamaged, but not whose image it is.",
        examples=(
            "tccp image open disk.sealed disk.raw --key recipient.key --tenant tenant.pub",
            "tccp image open disk.sealed - --key recipient.key | gzip > disk.gz",
        ),
    )
    add_file(parser, "image", summary="the sealed image; - is standard input")
    add_file(parser, "out", summary="the raw image; - is standard output")
    add_secret(parser, "--key", required=True, summary="secret key of a recipient")
    add_checks(parser)


def run(args: argparse.Namespace) -> int:
    """Open."""
    from tccp.cli.image.describe import document, facts
    from tccp.cli.image.progress import progress_bar

    refuse_json_on_stdout(args.out, args)
    with sealed_image(args.image) as image:
        key = unlock(image, args)
        signature = check_identity(image, args)
        with progress_bar("opening", as_json=args.json) as watch:
            _open_into(image, args.out, key, watch)
    if args.out == STDIN:
        return exit_codes.OK
    if args.json:
        print_json({**document(image.info, image.recipients), "signature": signature})
    else:
        screen = Screen()
        screen.line(f"{args.out}: opened")
        screen.facts("image", {**facts(image.info, image.recipients), "signature": signature})
    return exit_codes.OK


def _open_into(image: "SealedImage", path: Path, key: "ImageKey", watch: "Watch | None") -> None:
    """A regular file appears when it is complete; anything else is written as it is."""
    from tccp.image.output import new_file
    from tccp.image.sealed import open_image

    with contextlib.ExitStack() as stack:
        if path == STDIN:
            sys.stdout.flush()
            open_image(image, sys.stdout.fileno(), key, in_order=True, watch=watch)
        elif path.exists() and not path.is_file():
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            open_image(image, descriptor, key, in_order=True, watch=watch)
        else:
            file = stack.enter_context(new_file(path))
            open_image(image, file.descriptor, key, watch=watch)
            file.publish()
