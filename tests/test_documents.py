"""What documents point to in the code and in the tests is there."""

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest

from tccp.cli.arguments import Parser
from tccp.cli.exit_codes import UsageError
from tccp.cli.main import build_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
TARGET = re.compile(r"`(tccp(?:\.\w+)+):(\w+)`")
FILE = re.compile(r"`((?:src|csrc|tests|docs|systemd|bench|tools)/[\w./-]+)`")


def named(pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
    found = {match.groups() for path in DOCUMENTS for match in pattern.finditer(path.read_text())}
    return sorted(found)


@functools.cache
def functions_of(path: Path) -> frozenset[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))


@pytest.mark.parametrize(("path", "name"), named(TEST), ids=lambda part: part)
def test_a_test_that_a_document_names_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(ROOT / path)


@pytest.mark.parametrize(("module", "name"), named(TARGET), ids=lambda part: part)
def test_what_a_document_names_in_the_code_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


OURS = re.compile(r"(sudo )?tccp ")


def typed_in(text: str) -> list[str]:
    """The lines of a document's blocks of shell."""
    blocks = re.findall(r"^```sh[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def commands() -> list[str]:
    """Every `tccp` command that a document shows, in its text or in a block of its own, without pipes around it."""
    found: set[str] = set()
    for path in [*DOCUMENTS, ROOT / "systemd" / "README.md"]:
        text = path.read_text()
        lines = [*typed_in(text), *re.findall(r"`((?:sudo )?tccp [^`]+)`", text.replace("\n", " "))]
        found |= {line.removeprefix("sudo ").split(" > ")[0] for line in lines if OURS.match(line)}
    return sorted(found)


def other_commands() -> set[str]:
    """What the documents' blocks of shell show beside, without remarks."""
    lines = [line for path in [*DOCUMENTS, ROOT / "systemd" / "README.md"] for line in typed_in(path.read_text())]
    return {line.partition("  #")[0].rstrip() for line in lines if line and not OURS.match(line)}


@functools.cache
def parser() -> Parser:
    """That of the `tccp` command."""
    return build_parser()


def is_group(command: str) -> bool:
    """Whether it names a group of commands, and none of them."""
    try:
        parser().parse_args(shlex.split(command)[1:])
    except UsageError as problem:
        return problem.detail == "the following arguments are required: COMMAND"
    except SystemExit:
        pass
    return False


@pytest.mark.parametrize("command", commands())
def test_a_command_that_a_document_shows_is_one(command: str) -> None:
    """Parsed with all its options, and not run; a variable of the shell stands for a digest."""
    words = shlex.split(command.replace("$PCR10", 64 * "0"))[1:]
    try:
        parser().parse_args(words)
    except UsageError as problem:
        assert problem.detail == "the following arguments are required: COMMAND"  # noqa: PT017 - a whole group
    except SystemExit as end:
        assert words[-1] == "--help"
        assert end.code == 0  # noqa: PT017


def test_every_unit_that_a_document_names_exists() -> None:
    units = set(re.findall(r"\btccp-[a-z-]+\.(?:service|socket)", " ".join(path.read_text() for path in DOCUMENTS)))

    assert units
    assert not [unit for unit in units if not (ROOT / "systemd" / unit).exists()]


def test_every_file_that_a_document_names_exists() -> None:
    assert not [name for (name,) in named(FILE) if not (ROOT / name).exists()]


def test_the_documents_name_tests_and_code() -> None:
    assert len(named(TEST)) > 40
    assert len(named(TARGET)) > 40
    assert len(commands()) > 15
