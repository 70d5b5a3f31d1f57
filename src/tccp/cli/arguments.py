"""The parts of a command line that all commands share."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tccp.cli.exit_codes import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from _typeshed import SupportsWrite

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]

# What shtab calls shtab.FILE and shtab.DIRECTORY; written out, for it is slow to import.
COMPLETE_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}
COMPLETE_FOLDERS = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/"}
TCTI_VARIABLE = "TCCP_TCTI"
ATTRIBUTE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
DEFAULT_TCTI = "device:/dev/tpmrm0"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Texts as they were written, and room for the names of commands and options."""

    def __init__(self, prog: str) -> None:
        """Give names up to 26 characters a line together with their help."""
        super().__init__(prog, max_help_position=28)

    def add_argument(self, action: argparse.Action) -> None:
        """Make room for the indentation of commands, which argparse forgets."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += 2


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
        epilog=_epilogue(examples),
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, *, summary: str, examples: Sequence[str], about: str = "") -> Commands:
    """A command that only holds others: ``tccp evidence``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{about}".rstrip(),
        epilog=_epilogue(examples),
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _epilogue(examples: Sequence[str]) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in examples)


def add_file(container: argparse._ActionsContainer, name: str, *, summary: str, required: bool = False) -> None:
    """An argument (``file``) or an option (``--ak``) that names a file to read; ``-`` is standard input."""
    if name.startswith("-"):
        action = container.add_argument(name, metavar="FILE", type=Path, required=required, help=summary)
    else:
        action = container.add_argument(name, metavar=name.upper(), type=Path, help=summary)
    _complete(action, COMPLETE_FILES)


def add_files(container: argparse._ActionsContainer, name: str, *, summary: str) -> None:
    """Like `add_file`, for one or more files (``logs``), or for an option that may be given again and again."""
    if name.startswith("-"):
        action = container.add_argument(name, metavar="FILE", type=Path, action="append", default=[], help=summary)
    else:
        action = container.add_argument(name, metavar=name.upper(), type=Path, nargs="+", help=summary)
    _complete(action, COMPLETE_FILES)


def add_optional_files(parser: Parser, name: str, *, summary: str) -> None:
    """Like `add_files`, for files that need not be named."""
    _complete(parser.add_argument(name, metavar="FILE", type=Path, nargs="*", help=summary), COMPLETE_FILES)


def add_folder(parser: Parser, name: str, *, summary: str, required: bool = False) -> None:
    """An option that names a folder to read."""
    _complete(parser.add_argument(name, metavar="DIR", type=Path, required=required, help=summary), COMPLETE_FOLDERS)


def add_output_file(parser: Parser, name: str, *, summary: str) -> None:
    """An option that names a file to write."""
    _complete(parser.add_argument(name, metavar="FILE", type=Path, help=summary), COMPLETE_FILES)


def _complete(action: argparse.Action, how: dict[str, str]) -> None:
    """Tell shtab how shells complete the value."""
    action.complete = how  # type: ignore[attr-defined]


def add_tcti(parser: Parser) -> None:
    """The option that says where the TPM is."""
    parser.add_argument(
        "--tcti",
        metavar="TCTI",
        default=os.environ.get(TCTI_VARIABLE) or DEFAULT_TCTI,
        help=f"the TPM: device:PATH or swtpm:path=PATH (default: ${TCTI_VARIABLE}, or {DEFAULT_TCTI})",
    )


def hex_bytes(text: str) -> bytes:
    """Bytes written in hexadecimal, with or without ``0x``; a type for ``add_argument``."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not hexadecimal") from None


def hex_of(count: int, what: str) -> Callable[[str], bytes]:
    """Exactly *count* bytes of *what*, in hexadecimal; makes a type for ``add_argument``."""

    def parse(text: str) -> bytes:
        value = hex_bytes(text)
        if len(value) != count:
            raise argparse.ArgumentTypeError(f"{what} has {count} bytes, {2 * count} hexadecimal digits")
        return value

    return parse


def text_of(most: int) -> Callable[[str], str]:
    """A text that a daemon takes, of one to so many characters; makes a type for ``add_argument``."""

    def parse(text: str) -> str:
        if not text.strip():
            raise argparse.ArgumentTypeError("it is empty")
        if not text.isprintable():
            raise argparse.ArgumentTypeError("a character in it cannot be printed")
        if len(text) > most:
            raise argparse.ArgumentTypeError(f"{len(text)} characters, and {most} are allowed")
        return text

    return parse


def unicode_text(text: str) -> str:
    """A text, and not bytes of the shell's that are none; a type for ``add_argument``."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise argparse.ArgumentTypeError("it is not UTF-8")
    return text


def name_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` in two; a type for ``add_argument``."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def attribute_pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of a node's attribute; a type for ``add_argument``."""
    name, value = name_value(text)
    return attribute_name(name), value


def attribute_name(text: str) -> str:
    """The name of an attribute; a type for ``add_argument``."""
    if not ATTRIBUTE_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: a-z, 0-9, '-', '_' and '.', 1 to 63 characters")
    return text


def add_demands(parser: Parser, *, attribute: str, attested: str) -> None:
    """The options ``--attribute`` and ``--attested``, each of a ``NAME=VALUE`` that a node must have."""
    for option, summary in (("--attribute", attribute), ("--attested", attested)):
        parser.add_argument(
            option,
            metavar="NAME=VALUE",
            type=attribute_pair,
            action="append",
            default=[],
            help=f"{summary}; may be given again",
        )


def number_from_zero(text: str) -> int:
    """A whole number that is not negative; a type for ``add_argument``."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def number_in(numbers: range) -> Callable[[str], int]:
    """A whole number among *numbers*; makes a type for ``add_argument``."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) in numbers):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {numbers[0]} to {numbers[-1]}")
        return int(text)

    return number


def node_name(text: str) -> str:
    """The name of a node; a type for ``add_argument``."""
    from tccp.model import NodeName

    try:
        return NodeName(text).value
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def utc_time(text: str) -> "datetime":
    """An ISO 8601 date or time, in UTC, which it is where it says nothing else. A type for ``add_argument``."""
    from datetime import UTC, datetime

    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO 8601 time such as 2026-11-23T12:00") from None
