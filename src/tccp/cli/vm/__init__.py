"""``tccp vm``: the VMs of the node that runs on this machine; and, anywhere, whether a launch was what it should be."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.vm import cancel, console, destroy, launch, listing, receive, snapshot, stop, suspend, verify, watch


def add_parser(commands: Commands) -> None:
    """Add ``tccp vm`` and what is below it."""
    group = add_group(
        commands,
        "vm",
        summary="launch VMs by tickets on this node, and verify launches",
        about="Looking needs the viewer group, launching and stopping the admin group of the daemon (or root).",
        examples=(
            "tccp vm launch web.ticket web.sealed --receipt web.receipt",
            "tccp vm list",
            "tccp vm stop 5d4c",
            "tccp vm suspend 5d4c",
            "tccp vm verify web.receipt --vm web.vm",
        ),
    )
    for command in (launch, listing, console, stop, suspend, snapshot, receive, cancel, destroy, watch, verify):
        command.add_parser(group)
