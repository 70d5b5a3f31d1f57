"""``tccp policy from-packages``: the digests of all files in Debian and RPM packages."""

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
        summary="list the digests of the files in Debian or RPM packages",
        about="Prints a list as sha256sum does, for `tccp policy compile`. What is in Debian packages is hashed:\n"
        "the md5sums of an installed system prove nothing. Files of /bin, /sbin and /lib are listed below /usr too.\n"
        "Of RPM packages the digests in the header are taken, which their signature covers: check that first\n"
        "(`rpm -K`).",
        examples=(
            "tccp policy from-packages /var/cache/apt/archives/*.deb > files.sha256",
            "tccp policy from-packages *.rpm > files.sha256",
        ),
    )
    add_files(parser, "packages", summary=".deb or .rpm files")


def run(args: argparse.Namespace) -> int:
    """Hash or read, and print."""
    from tccp.attestation.debian_package import package_digests
    from tccp.attestation.rpm_package import is_rpm, rpm_digests

    files: list[tuple[bytes, bytes]] = []
    for path in args.packages:
        try:
            with path.open("rb") as package:
                read = rpm_digests if is_rpm(package.peek(4)) else package_digests
                files += read(package, str(path))
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
