"""``tccp image``: seal VM images, open and verify them, change their recipients. All of it works offline."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.image import inspect, open_command, rewrap, seal, verify


def add_parser(commands: Commands) -> None:
    """Add ``tccp image`` and what is below it."""
    group = add_group(
        commands,
        "image",
        summary="seal VM images, open and verify them",
        about="A sealed image is encrypted to its recipients, and signed by its tenant when there is a --sign. Secret\n"
        "keys come from files that nobody else may read, or from descriptors (fd:3), never from arguments.",
        examples=(
            "tccp image seal disk.qcow2 disk.sealed --to node.pub --sign tenant.key",
            "tccp image inspect disk.sealed",
            "tccp image verify disk.sealed --tenant tenant.pub --key recipient.key",
            "tccp image open disk.sealed disk.raw --key recipient.key --tenant tenant.pub",
            "tccp image rewrap disk.sealed --key recipient.key --add other.pub",
        ),
    )
    for command in (seal, open_command, inspect, verify, rewrap):
        command.add_parser(group)
