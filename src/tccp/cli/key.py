"""``tccp key``: keys of recipients and tenants of sealed images, and of operators who sign policies."""

import argparse
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_group
from tccp.cli.files import PUBLIC_MODE, SECRET_MODE, write_new_key
from tccp.cli.output import Screen, print_json

SECRET_SUFFIX = ".key"  # noqa: S105 - of a file name


def add_parser(commands: Commands) -> None:
    """Add ``tccp key`` and what is below it."""
    group = add_group(
        commands,
        "key",
        summary="make keys for sealed images and policies",
        examples=("tccp key generate recipient.key", "tccp key generate --type tenant tenant.key"),
    )
    parser = add_command(
        group,
        "generate",
        run,
        summary="make a secret key and its public key",
        about="Writes the secret key to OUT, for its owner's eyes only, and the public key beside it: x.key and\n"
        "x.pub, or x and x.pub. A recipient can open images that are sealed to it (X-Wing: ML-KEM-768 and X25519); a\n"
        "tenant signs images, an operator policies (Ed25519). Nothing is ever overwritten.",
        examples=("tccp key generate recipient.key", "tccp key generate --type tenant tenant.key"),
    )
    types = ("recipient", "tenant", "operator")
    parser.add_argument("--type", choices=types, default="recipient", help="what it is for (default: recipient)")
    add_file(parser, "out", summary="where to write the secret key")


def run(args: argparse.Namespace) -> int:
    """Make both."""
    from tccp.image import keys

    out: Path = args.out
    public_path = out.with_suffix(".pub") if out.suffix == SECRET_SUFFIX else out.with_name(f"{out.name}.pub")
    if args.type == "tenant":
        secret, public = keys.write_tenant_keys()
        key_id = bytes(keys.read_tenant_public(public))
    elif args.type == "operator":
        secret, public = keys.write_operator_keys()
        key_id = bytes(keys.read_operator_public(public))
    else:
        secret, public = keys.write_recipient_keys()
        key_id = keys.read_recipient_public(public).key_id
    write_new_key(out, secret, SECRET_MODE)
    try:
        write_new_key(public_path, public, PUBLIC_MODE)
    except BaseException:
        out.unlink()
        raise
    if args.json:
        print_json({"type": args.type, "secret": str(out), "public": str(public_path), "id": key_id})
    else:
        screen = Screen()
        article = "an" if args.type == "operator" else "a"
        screen.line(
            f"{out}: the secret key of {article} {args.type}; keep it, and a copy, where nobody else can read it"
        )
        screen.line(f"{public_path}: the public key, for those who should know it")
        screen.line(f"id {key_id.hex()}")
    return exit_codes.OK
