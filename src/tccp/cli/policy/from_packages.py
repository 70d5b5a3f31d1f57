"""``tccp policy from-packages``: the digests of all files in Debian packages."""

import argparse
import sys

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_files
from tccp.cli.output import print_json
from tccp.errors import HostError


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "from-packages",
        run,
        summary="hash the files in Debian packages",
        about="Prints a list as sha256sum does, for `tccp policy compile`. The packages' contents are hashed: the\n"
        "md5sums of an installed system prove nothing. Files of /bin, /sbin and /lib are listed below /usr too.",
        examples=("tccp policy from-packages /var/cache/apt/archives/*.deb > files.sha256",),
    )
    add_files(parser, "packages", summary=".deb files")


def run(args: argparse.Namespace) -> int:
    """Hash and print."""
    from tccp.attestation.debian_package import package_digests

    files: list[tuple[bytes, bytes]] = []
    for path in args.packages:
        try:
            with path.open("rb") as package:
                files += package_digests(package, str(path))
        except OSError as error:
            raise HostError("file_unreadable", f"{path}: {error.strerror}") from error
    if args.json:
        listed = [{"path": path.decode("utf-8", "backslashreplace"), "sha256": digest} for path, digest in files]
        print_json({"files": listed})
        return exit_codes.OK
    for path, digest in files:
        sys.stdout.buffer.write(_line(path, digest))
    return exit_codes.OK


def _line(path: bytes, digest: bytes) -> bytes:
    """As sha256sum writes it: names that would make two lines are escaped, and the line is marked."""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != path else b""
    return mark + digest.hex().encode("ascii") + b"  " + escaped + b"\n"
