"""``tccp config``: the configuration files of the daemons."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.config import check, example


def add_parser(commands: Commands) -> None:
    """Add ``tccp config`` and what is below it."""
    group = add_group(
        commands,
        "config",
        summary="check the configuration files of the daemons, or begin one",
        examples=("tccp config check", "tccp config example node > node.toml"),
    )
    for command in (check, example):
        command.add_parser(group)
