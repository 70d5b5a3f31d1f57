"""``tccp key``: keys of recipients and tenants of sealed images."""

import argparse
import os
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_group
from tccp.cli.output import Screen, print_json
from tccp.errors import ConfigError, HostError

SECRET_SUFFIX = ".key"  # noqa: S105 - of a file name
SECRET_MODE, PUBLIC_MODE = 0o600, 0o644


def add_parser(commands: Commands) -> None:
    """Add ``tccp key`` and what is below it."""
    group = add_group(
        commands,
        "key",
        summary="make keys for sealed images",
        examples=("tccp key generate recipient.key", "tccp key generate --type tenant tenant.key"),
    )
    parser = add_command(
        group,
        "generate",
        run,
        summary="make a secret key and its public key",
        about="Writes the secret key to OUT, for its owner's eyes only, and the public key beside it: x.key and\n"
        "x.pub, or x and x.pub. A recipient can open images that are sealed to it (X-Wing: ML-KEM-768 and X25519); a\n"
        "tenant signs images (Ed25519). Nothing is ever overwritten.",
        examples=("tccp key generate recipient.key", "tccp key generate --type tenant tenant.key"),
    )
    parser.add_argument(
        "--type", choices=("recipient", "tenant"), default="recipient", help="what it is for (default: recipient)"
    )
    add_file(parser, "out", summary="where to write the secret key")


def run(args: argparse.Namespace) -> int:
    """Make both."""
    from tccp.image.keys import read_recipient_public, read_tenant_public, write_recipient_keys, write_tenant_keys

    out: Path = args.out
    public_path = out.with_suffix(".pub") if out.suffix == SECRET_SUFFIX else out.with_name(f"{out.name}.pub")
    if args.type == "tenant":
        secret, public = write_tenant_keys()
        key_id = bytes(read_tenant_public(public))
    else:
        secret, public = write_recipient_keys()
        key_id = read_recipient_public(public).key_id
    _write_new(out, secret, SECRET_MODE)
    try:
        _write_new(public_path, public, PUBLIC_MODE)
    except BaseException:
        out.unlink()
        raise
    if args.json:
        print_json({"type": args.type, "secret": str(out), "public": str(public_path), "id": key_id})
    else:
        screen = Screen()
        screen.line(f"{out}: the secret key of a {args.type}; keep it, and a copy, where nobody else can read it")
        screen.line(f"{public_path}: the public key, for those who should know it")
        screen.line(f"id {key_id.hex()}")
    return exit_codes.OK


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise ConfigError(
            "key_exists", f"{path} is there already", hint="Choose another name: a lost key opens nothing any more."
        ) from error
    except OSError as error:
        raise HostError("file_unwritable", f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError):
            raise HostError("file_unwritable", f"{path}: {error.strerror}") from error
        raise
