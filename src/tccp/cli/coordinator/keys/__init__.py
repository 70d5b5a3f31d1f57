"""``tccp coordinator keys``: how the coordinator's private keys are kept, and got back."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.coordinator.keys import approvals, authority, shares, show


def add_parser(commands: Commands) -> None:
    """Add ``tccp coordinator keys`` and what is below it."""
    group = add_group(
        commands,
        "keys",
        summary="keep the coordinator's private keys, and get them back",
        about="The keys are sealed to the TPM of the coordinator's machine. It gives them back in the states that the\n"
        "update authority has approved; officers hold shares from which another machine gets them. No command shows\n"
        "or writes a private key in the clear. Where a command needs the TPM, and no resource manager stands before\n"
        "it, stop the daemon first.",
        examples=(
            "tccp coordinator keys authority update-authority.key",
            "sudo tccp coordinator keys request --out request.toml",
            "tccp coordinator keys approve request.toml --authority update-authority.key --out approval.toml",
            "sudo tccp coordinator keys install-approval approval.toml",
            "sudo tccp coordinator keys backup --officer ann=ann.pub --officer bob=bob.pub --threshold 2 --out shares",
        ),
    )
    for module in (show, authority, approvals, shares):
        module.add_parsers(group)
