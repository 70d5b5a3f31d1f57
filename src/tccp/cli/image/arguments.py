"""Arguments that several image commands have, and the files behind them."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli.arguments import Parser, add_file, hex_of
from tccp.cli.exit_codes import UsageError
from tccp.cli.files import STDIN
from tccp.cli.key_files import recipient_secret, tenant_public
from tccp.errors import HostError

if TYPE_CHECKING:
    from tccp.core.image import ImageKey
    from tccp.image.sealed import SealedImage

root_bytes = hex_of(32, "a root")


def add_checks(parser: Parser) -> None:
    """The options that say which image one wants."""
    add_file(parser, "--tenant", summary="public key of the tenant who must have signed the image")
    parser.add_argument("--root", metavar="HEX", type=root_bytes, help="root that the image must have, 64 digits")


@contextlib.contextmanager
def sealed_image(path: Path) -> Iterator["SealedImage"]:
    """The sealed image in a file; what comes through a pipe goes into an unnamed temporary file first."""
    from tccp.image.output import copy_to_end, is_regular, spool
    from tccp.image.sealed import read_sealed_image

    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError("file_unreadable", f"{path}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        if not is_regular(descriptor):
            spooled = stack.enter_context(spool())
            copy_to_end(descriptor, spooled)
            descriptor = spooled
        yield read_sealed_image(descriptor)


def check_identity(image: "SealedImage", args: argparse.Namespace) -> str:
    """Check what ``add_checks`` asked for; returns what there is to say of the signature.

    Raises:
        SealedImageError: It is another image, or not the tenant's.
    """
    from tccp.image.sealed import verify_root, verify_signature, verify_tenant

    if args.root is not None:
        verify_root(image.info, args.root)
    if args.tenant is not None:
        verify_tenant(image.info, tenant_public(args.tenant))
        return "by the tenant"
    if image.info.tenant is None:
        return "none"
    verify_signature(image.info)
    return "by the key it names: --tenant says whether that is the tenant's"


def unlock(image: "SealedImage", args: argparse.Namespace) -> "ImageKey":
    """The image key, by ``--key``."""
    from tccp.image.sealed import unlock_image

    return unlock_image(image, recipient_secret(args.key))


def refuse_json_on_stdout(path: Path, args: argparse.Namespace) -> None:
    """Data and a document cannot share standard output.

    Raises:
        UsageError: They should.
    """
    if path == STDIN and args.json:
        raise UsageError("usage", "--json and an image cannot both go to standard output")
