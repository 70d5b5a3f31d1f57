"""``tccp coordinator keys authority``: make the key that approves states of a coordinator's machine."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.coordinator.keys.common import write_authority
from tccp.cli.output import Screen, print_json


def add_parsers(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "authority",
        run,
        summary="make the key of an update authority",
        about="Do it where the key will stay: another machine than the coordinator's, best one without a network.\n"
        "Writes the secret key (P-256, PEM) to OUT and the public key beside it; nothing is ever overwritten.",
        examples=("tccp coordinator keys authority update-authority.key",),
    )
    add_file(parser, "out", summary="where to write the secret key")


def run(args: argparse.Namespace) -> int:
    """Make both."""
    from tccp.coordinator.custody import authority as a

    key = a.make_authority()
    public = write_authority(args.out, key)
    key_id = a.authority_id(key.public_key())
    if args.json:
        print_json({"secret": str(args.out), "public": str(public), "id": key_id.hex()})
        return exit_codes.OK
    screen = Screen()
    screen.line(f"{args.out}: the secret key of the authority; it belongs on no coordinator's machine")
    screen.line(f"{public}: the public key, for `tccp coordinator init --authority`")
    screen.line(f"id {key_id.hex()}")
    return exit_codes.OK
