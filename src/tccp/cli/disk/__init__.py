"""``tccp disk``: live disks of VMs."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.disk import ask, check, compact, create, info, resize, serve


def add_parser(commands: Commands) -> None:
    """Add ``tccp disk`` and what is below it."""
    group = add_group(
        commands,
        "disk",
        summary="live disks of VMs: encrypted, authenticated, safe against crashes",
        about="A disk has one key of 32 bytes. It comes from a file (--key) or a descriptor (--key-fd).",
        examples=(
            "tccp disk create vm.disk --size 20G --key vm.key",
            "tccp disk serve vm.disk --key vm.key --socket /run/vm.sock",
            "tccp disk ask /run/vm.sock mark",
            "tccp disk check vm.disk --key vm.key",
        ),
    )
    for command in (create, serve, ask, info, check, resize, compact):
        command.add_parser(group)
