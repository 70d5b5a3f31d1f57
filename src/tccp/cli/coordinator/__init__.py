"""``tccp coordinator``: command the coordinator that runs on this machine."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.coordinator import enrol, init, nodes, policy, record, revoke, status, trust, watch


def add_parser(commands: Commands) -> None:
    """Add ``tccp coordinator`` and what is below it."""
    group = add_group(
        commands,
        "coordinator",
        summary="command the coordinator that runs on this machine",
        about="Looking needs the viewer group, changing the admin group of the daemon (or root).",
    )
    for command in (init, status, trust, nodes, enrol, revoke, record, policy, watch):
        command.add_parser(group)
