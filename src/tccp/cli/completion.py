"""``tccp completion``: a script that teaches a shell to complete ``tccp``."""

import argparse

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.output import print_json

SHELLS = ("bash", "zsh")


def add_parser(commands: Commands) -> None:
    """Add ``tccp completion``."""
    parser = add_command(
        commands,
        "completion",
        run,
        summary="print a completion script for a shell",
        about="The script is made from the very parser that reads the command line.",
        examples=(
            'eval "$(tccp completion bash)"                                      for this shell',
            "tccp completion bash > ~/.local/share/bash-completion/completions/tccp   for good",
            'tccp completion zsh > "${fpath[1]}/_tccp"',
        ),
    )
    parser.add_argument("shell", choices=SHELLS, help="bash or zsh")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from tccp.cli.main import build_parser

    script = shtab.complete(build_parser(), shell=args.shell)
    if args.json:
        print_json({"shell": args.shell, "script": script})
    else:
        print(script)
    return exit_codes.OK
