"""``tccp config example``: a file to start from, with every key."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.output import print_json

# The names of `tccp.config.files.FILES`, which is slow to import; a test compares.
NAMES = ("coordinator", "node", "witness")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "example",
        run,
        summary="print a configuration file with every key, to start from",
        about="Keys stand behind a '#' with the values that they have anyway; those that must be there do not.\n"
        "tccp-coordinator.toml(5), tccp-node.toml(5) and tccp-witness.toml(5) say the same.",
        examples=("tccp config example node | sudo tee /etc/tccp/node.toml", "tccp config example coordinator"),
    )
    parser.add_argument("name", choices=NAMES, help="coordinator, node or witness")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from tccp.config.files import file_called
    from tccp.config.rendering import example_file

    file = file_called(args.name)
    if args.json:
        print_json({"name": file.name, "path": str(file.path), "text": example_file(file)})
    else:
        print(example_file(file), end="")
    return exit_codes.OK
