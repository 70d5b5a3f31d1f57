"""``tccp image rewrap``: change who can open a sealed image, without touching its data."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.exit_codes import UsageError
from tccp.cli.key_files import add_secret
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.image.rewrap import Named

HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "rewrap",
        run,
        summary="add, remove and replace recipients of a sealed image",
        about="In place, in an instant: the data, the root and the signature stay. Who was a recipient may have kept\n"
        "the image key: to keep somebody out for good, seal the image anew.",
        examples=(
            "tccp image rewrap disk.sealed --key recipient.key --add other.pub",
            "tccp image rewrap disk.sealed --key recipient.key --remove 3f2a9c01",
            "tccp image rewrap disk.sealed --key old.key --rotate old.pub new.pub",
        ),
    )
    add_file(parser, "image", summary="the sealed image")
    add_secret(parser, "--key", required=True, summary="secret key of a recipient")
    parser.add_argument("--add", metavar="FILE", type=Path, action="append", default=[], help="public key to add")
    parser.add_argument(
        "--remove", metavar="KEY", action="append", default=[], help="public key file, or the digits its id begins with"
    )
    parser.add_argument(
        "--rotate",
        metavar=("OLD", "NEW"),
        nargs=2,
        action="append",
        default=[],
        help="replace OLD, as for --remove, by the public key in the file NEW",
    )


def run(args: argparse.Namespace) -> int:
    """Rewrap."""
    from tccp.cli.image.describe import document, facts
    from tccp.cli.key_files import recipient_public, recipient_secret, recipients_public
    from tccp.image.rewrap import rewrap_image

    if not (args.add or args.remove or args.rotate):
        raise UsageError("usage", "nothing to change: --add, --remove or --rotate")
    info, entries = rewrap_image(
        args.image,
        recipient_secret(args.key),
        add=recipients_public(args.add),
        remove=[_named(name) for name in args.remove],
        rotate=[(_named(old), recipient_public(Path(new))) for old, new in args.rotate],
    )
    if args.json:
        print_json(document(info, entries))
    else:
        screen = Screen()
        screen.line(f"{args.image}: rewrapped")
        screen.facts("image", facts(info, entries))
    return exit_codes.OK


def _named(name: str) -> "Named":
    """Digits, unless there is a file of that name: then the key in it."""
    from tccp.cli.key_files import recipient_public

    if set(name) <= HEX_DIGITS and not Path(name).exists():
        return name
    return recipient_public(Path(name)).key_id
