"""``tccp receipt``: what a receipt of a coordinator's log proves."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.receipt import verify


def add_parser(commands: Commands) -> None:
    """Add ``tccp receipt`` and what is below it."""
    group = add_group(
        commands,
        "receipt",
        summary="verify receipts of a coordinator's log, offline",
        examples=("tccp receipt verify launch.receipt",),
    )
    verify.add_parser(group)
