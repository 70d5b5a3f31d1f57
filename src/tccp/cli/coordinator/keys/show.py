"""``tccp coordinator keys show``: in which states the keys can be used, and whether this is one of them."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.coordinator.keys.common import add_config, load
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.coordinator.custody.vault import InstalledApproval


def add_parsers(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "show",
        run,
        summary="show whose keys they are, and which states are approved",
        about="Reads files only: neither the TPM nor a private key.",
        examples=("sudo tccp coordinator keys show",),
    )
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    from tccp.coordinator.custody.authority import authority_id
    from tccp.coordinator.custody.vault import installed_approvals, read_vault

    _config, state = load(args)
    sealed = read_vault(state)
    installed, refused = installed_approvals(state, sealed)
    authority = authority_id(sealed.authority).hex()
    if args.json:
        print_json(
            {
                "coordinator_id": sealed.coordinator_id.hex(),
                "authority": authority,
                "approvals": [_document(found) for found in installed],
                "refused": refused,
            }
        )
        return exit_codes.OK
    screen = Screen()
    screen.facts("keys of the coordinator", {"id": sealed.coordinator_id.hex(), "authority": authority})
    screen.table(
        ("approval", "generation", "bank", "PCRs"),
        [
            (
                found.path.stem[:16],
                str(found.approval.approved.generation),
                found.approval.approved.pcrs.selection.bank.hash_name,
                ", ".join(str(index) for index in found.approval.approved.pcrs.selection.indexes),
            )
            for found in installed
        ],
    )
    screen.list("not counted", refused) if refused else None
    return exit_codes.OK


def _document(found: "InstalledApproval") -> dict[str, object]:
    approved = found.approval.approved
    return {
        "file": str(found.path),
        "generation": approved.generation,
        "bank": approved.pcrs.selection.bank.hash_name,
        "pcrs": {str(index): approved.pcrs.values[index].hex() for index in approved.pcrs.selection.indexes},
    }
