"""``tccp trust``: which coordinators a tenant trusts, and whether they still deserve it."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.trust import add, check, listing


def add_parser(commands: Commands) -> None:
    """Add ``tccp trust`` and what is below it."""
    group = add_group(
        commands,
        "trust",
        summary="verify coordinators, and pin those that prove what they are",
        about="Nothing of yours is sent to a coordinator before it has proved everything that your policy demands.",
        examples=(
            "tccp trust add tc.example.net:7444 --policy tc-policy.toml",
            "tccp trust check",
            "tccp trust list",
        ),
    )
    for command in (add, check, listing):
        command.add_parser(group)
