"""The command as a whole: start-up, usage, exit codes, interruption."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tccp import __version__
from tccp.cli import completion, exit_codes
from tccp.cli.arguments import Parser
from tccp.cli.main import build_parser, main
from tccp.errors import ConfigError, HostError, QuoteError, TccpError

from .running import TCCP, tccp

# Each takes longer to import than all of `tccp --help` may take.
FORBIDDEN_AT_START = {
    "trio",
    "rich",
    "cryptography",
    "msgspec",
    "msgpack",
    "structlog",
    "nacl",
    "cffi",
    "shtab",
    "ssl",
    "inspect",
    "json",
    "hashlib",
    "tccp.model",
}


def leaves(parser: Parser) -> Iterator[Parser]:
    """Every command that does something."""
    groups = [action for action in parser._actions if isinstance(action.choices, dict)]
    for group in groups:
        assert group.choices is not None
        for child in dict(group.choices).values():  # type: ignore[call-overload]
            yield from leaves(child)
    if not groups:
        yield parser


def parsers(parser: Parser) -> Iterator[Parser]:
    """The parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for child in action.choices.values():
                yield from parsers(child)


LEAVES = list(leaves(build_parser()))


def test_version_is_that_of_the_package() -> None:
    assert tccp("--version") == (0, f"tccp {__version__}\n", "")


def test_help_imports_nothing_slow() -> None:
    # The control: the interpreter reports modules by the same means when a command does import them.
    watch = (
        "import sys\nfrom tccp.cli.main import main\ncode = main(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    )
    start = subprocess.run([sys.executable, "-c", watch, "--help"], capture_output=True, check=True, text=True)
    control = subprocess.run(
        [sys.executable, "-c", watch, "completion", "bash"], capture_output=True, check=True, text=True
    )

    assert not FORBIDDEN_AT_START & set(start.stderr.split())
    assert "shtab" in control.stderr.split()


def test_help_lists_every_exit_code() -> None:
    shown = tccp("--help").out

    for code, meaning in exit_codes.MEANINGS.items():
        assert f"{code:>3}  {meaning}" in shown


@pytest.mark.parametrize("command", LEAVES, ids=lambda command: command.prog)
def test_every_command_has_examples_and_speaks_json(command: Parser) -> None:
    shown = command.format_help()

    assert "examples:\n  " in shown
    assert "--json" in shown
    assert command.prog in shown.split("examples:")[1]


def commands_in(line: str) -> Iterator[list[str]]:
    """The arguments of each ``tccp`` in a line of shell."""
    words: list[str] = []
    shell = shlex.shlex(line, posix=True, punctuation_chars="|&>;")
    shell.whitespace_split = True
    for word in [*shell, ";"]:
        if set(word) <= set("|&>;"):
            if "tccp" in words:
                yield words[words.index("tccp") + 1 :]
            words = []
        else:
            words.append(word)


def test_every_example_is_a_legal_command_line() -> None:
    lines = [
        re.split(r"(?<=\S)\s{3,}", line)[0]
        for parser in parsers(build_parser())
        for line in str(parser.epilog).replace("\\\n", " ").splitlines()
        if line.startswith("  ") and "tccp " in line and "$(" not in line and "ssh" not in line
    ]
    examples = [words for line in lines for words in commands_in(line) if "--help" not in words]

    assert len(examples) > 20
    for words in examples:
        build_parser().parse_args(words)


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("completion", "fish"), ("doctor", "--jso"), ("evidence",)])
def test_a_wrong_command_line_exits_with_2_and_says_where_help_is(arguments: tuple[str, ...]) -> None:
    ended = tccp(*arguments)

    assert (ended.code, ended.out) == (2, "")
    first, second = ended.err.splitlines()
    assert first.startswith("tccp: error: ")
    assert second.startswith("tccp: hint: `tccp")


def test_a_wrong_command_line_is_told_in_json_to_who_asked_for_json() -> None:
    ended = tccp("completion", "fish", "--json")

    assert (ended.code, ended.err) == (2, "")
    assert ended.document["error"] == "usage"
    assert set(ended.document) == {"error", "detail", "hint"}


def test_what_the_user_typed_cannot_drive_the_terminal() -> None:
    ended = tccp("\x1b]0;owned\x07\x1b[2J")

    assert "\x1b" not in ended.err
    assert "\\x1b]0;owned" in ended.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exit_codes.UsageError("usage"), 2),
        (QuoteError("bad_signature"), 1),
        (HostError("disk"), 3),
        (FileNotFoundError(), 3),
        (ConfigError("unknown_key"), 4),
    ],
)
def test_the_exit_code_says_whose_fault_it_was(error: TccpError | OSError, code: int) -> None:
    assert exit_codes.exit_code_of(error) == code


def test_a_bug_is_not_taken_for_a_refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(args: object) -> int:
        raise KeyError("nobody expected this")

    monkeypatch.setattr(completion, "run", broken)

    assert main(["completion", "bash", "--json"]) == exit_codes.BUG
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"] == "bug"
    assert "Traceback" in shown.err


@pytest.mark.parametrize("arguments", [["--help"], ["completion", "bash"], ["doctor"], ["doctor", "--json"]])
def test_a_reader_that_went_away_is_no_reason_to_complain(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run([TCCP, *arguments], stdout=write_end, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write_end)

    assert (done.returncode, done.stderr) == (exit_codes.BROKEN_PIPE, b"")


def test_a_full_disk_is_a_fault_of_this_machine() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([TCCP, "completion", "bash"], stdout=full, stderr=subprocess.PIPE, check=False)

    assert done.returncode == exit_codes.HOST
    assert done.stderr.startswith(b"tccp: error: ")


def test_a_disk_that_is_full_at_the_very_end_is_one_too() -> None:
    """What is short is written when the command has ended."""
    command, buffered = [TCCP, "config", "example", "witness"], {**os.environ, "PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=buffered, check=False)

    assert (done.returncode, done.stderr) == (exit_codes.HOST, b"tccp: error: os_error: No space left on device\n")


def test_characters_that_the_terminal_cannot_show_are_numbered() -> None:
    ended = tccp("schön", env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})

    assert (ended.code, "sch\\xf6n" in ended.err) == (2, True)


@pytest.mark.parametrize("arguments", ["--help", "doctor", "completion bash", "frobnicate"])
def test_closed_descriptors_swallow_what_is_printed(arguments: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" {arguments} <&- >&- 2>&-', TCCP], capture_output=True, check=False
    )

    assert done.returncode in {exit_codes.OK, exit_codes.USAGE, exit_codes.HOST}
    assert done.returncode != exit_codes.USAGE or arguments == "frobnicate"


def test_a_closed_standard_input_is_a_fault_of_this_machine() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" evidence eventlog - <&-', TCCP], capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (3, b"tccp: error: file_unreadable: -: standard input is closed\n")
