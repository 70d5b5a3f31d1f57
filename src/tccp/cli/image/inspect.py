"""``tccp image inspect``: what the header of a sealed image says."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.image.arguments import sealed_image
from tccp.cli.output import Screen, print_json
from tccp.errors import SealedImageError


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "inspect",
        run,
        summary="show what the header of a sealed image says",
        about="Needs no key and reads 64 KiB. Only the form and the signature are checked; `verify` does more.",
        examples=("tccp image inspect disk.sealed", "tccp image inspect disk.sealed --json | jq -r .root"),
    )
    add_file(parser, "image", summary="the sealed image; - is standard input")


def run(args: argparse.Namespace) -> int:
    """Parse and show."""
    from tccp.cli.image.describe import document, facts
    from tccp.image.sealed import verify_signature

    with sealed_image(args.image) as image:
        signature = "none"
        if image.info.tenant is not None:
            try:
                verify_signature(image.info)
                signature = "holds"
            except SealedImageError as problem:
                signature = f"does not hold: {problem.detail}"
    if args.json:
        print_json({**document(image.info, image.recipients), "signature": signature})
    else:
        screen = Screen()
        screen.line(f"{args.image}: a sealed image")
        screen.facts("claimed", {**facts(image.info, image.recipients), "signature": signature})
        screen.list("recipients", [entry.key_id.hex() for entry in image.recipients])
    return exit_codes.OK
