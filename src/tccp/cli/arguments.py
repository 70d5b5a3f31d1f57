"""The parts of a command line that all commands share."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tccp.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing and exiting by itself."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into an error of ours."""
        raise UsageError("usage", message, hint=f"`{self.prog} --help` shows the arguments and examples.")

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Print the help; argparse's own method hides that nobody reads it any more."""
        (file or sys.stdout).write(self.format_help())


def add_command(
    commands: Commands, name: str, run: Run, *, summary: str, about: str, examples: Sequence[str]
) -> Parser:
    """A command that does something: with examples in its help, and ``--json``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{about}",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, *, summary: str, about: str = "") -> Commands:
    """A command that only holds others: ``tccp evidence``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{about}".rstrip(),
        epilog=f"examples:\n  {commands._prog_prefix} {name} --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def add_file(parser: Parser, *names: str, summary: str, required: bool = True) -> None:
    """An argument that names a file to read; ``-`` is standard input."""
    if names[0].startswith("-"):
        parser.add_argument(*names, metavar="FILE", type=Path, required=required, help=summary)
    else:
        parser.add_argument(*names, metavar=names[0].upper(), type=Path, help=summary)


def hex_bytes(text: str) -> bytes:
    """Bytes written in hexadecimal, with or without ``0x``; a type for ``add_argument``."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not hexadecimal") from None
