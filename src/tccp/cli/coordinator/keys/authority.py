"""``tccp coordinator keys authority``, ``change-authority``: who approves states of a coordinator's machine."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.coordinator.keys.common import (
    add_authority,
    add_config,
    load,
    now_ms,
    seal_for_authority,
    write_authority,
)
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tccp.coordinator.custody.approval import Request
    from tccp.tpm import Tpm


def add_parsers(commands: Commands) -> None:
    """Add the commands."""
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
    parser = add_command(
        commands,
        "change-authority",
        change,
        summary="have the keys obey another update authority",
        about="For an authority whose secret key is lost. The machine must be in a state that the former one has\n"
        "approved; approvals of the former count no more. Old copies of the keys on disk still obey it, on this TPM:\n"
        "if its key is in a stranger's hands, clear the TPM (tpm2_clear) and restore from the shares instead.",
        examples=("sudo tccp coordinator keys change-authority --authority new-authority.pub",),
    )
    add_config(parser)
    add_authority(parser)


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


def change(args: argparse.Namespace) -> int:
    """Seal the keys anew."""
    from tccp.coordinator.custody.vault import change_authority, read_vault

    config, state = load(args)
    sealed = read_vault(state)

    async def seal(tpm: "Tpm", authority: "ec.EllipticCurvePublicKey") -> "Request":
        return await change_authority(tpm, state, sealed, authority, config.tpm.selection, now_ms=now_ms())

    found = seal_for_authority(args, config, seal)
    if args.json:
        print_json({"coordinator_id": sealed.coordinator_id.hex(), **found.document})
        return exit_codes.OK
    screen = Screen()
    screen.line(f"the keys obey the authority {found.authority_id.hex()[:16]} from now on")
    found.say(screen)
    return exit_codes.OK
