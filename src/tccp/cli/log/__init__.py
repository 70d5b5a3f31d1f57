"""``tccp log``: read a coordinator's log, and check it."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.log import audit, prove, show


def add_parser(commands: Commands) -> None:
    """Add ``tccp log`` and what is below it."""
    group = add_group(
        commands,
        "log",
        summary="read the log of a coordinator, and check it",
        about="Logs are read from where the coordinator serves them, or from a copy; neither need be trusted.",
        examples=("tccp log show", "tccp log audit", "tccp log prove 17 --output 17.receipt"),
    )
    for command in (show, prove, audit):
        command.add_parser(group)
