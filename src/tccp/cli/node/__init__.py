"""``tccp node``: look at this machine as a node."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.node import ek, status


def add_parser(commands: Commands) -> None:
    """Add ``tccp node`` and what is below it."""
    group = add_group(
        commands, "node", summary="look at this machine as a node", examples=("tccp node status", "tccp node ek")
    )
    for command in (status, ek):
        command.add_parser(group)
