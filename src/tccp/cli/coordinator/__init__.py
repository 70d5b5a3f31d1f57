"""``tccp coordinator``: command the coordinator that runs on this machine."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.coordinator import enrol, init, keys, nodes, policy, record, revoke, status, tenant, trust, watch


def add_parser(commands: Commands) -> None:
    """Add ``tccp coordinator`` and what is below it."""
    group = add_group(
        commands,
        "coordinator",
        summary="command the coordinator that runs on this machine",
        about="Looking needs the viewer group, changing the admin group of the daemon (or root).",
        examples=(
            "tccp coordinator policy add tvmm-2026.toml",
            "tccp coordinator enrol rack1-07 --policy tvmm-2026 --ek-certificate rack1-07.der",
            "tccp coordinator nodes",
            'tccp coordinator revoke rack1-07 --reason "sold"',
        ),
    )
    for command in (init, keys, status, trust, nodes, enrol, revoke, record, policy, tenant, watch):
        command.add_parser(group)
