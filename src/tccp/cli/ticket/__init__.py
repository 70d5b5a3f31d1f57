"""``tccp ticket``: what a tenant signs to have a VM started."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.ticket import create, show


def add_parser(commands: Commands) -> None:
    """Add ``tccp ticket`` and what is below it."""
    group = add_group(
        commands,
        "ticket",
        summary="sign tickets, each for one start of one VM",
        about="A ticket names images, shape and demands, and carries the keys for the coordinator alone. Give it to\n"
        "the provider: nothing in it is secret, and nothing in it can be changed.",
        examples=(
            "tccp ticket create web.ticket --vm web.vm --disk web.sealed --policy tvmm --sign tenant.key --key me.key",
            "tccp ticket show web.ticket",
        ),
    )
    for command in (create, show):
        command.add_parser(group)
