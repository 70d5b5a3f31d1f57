"""What documents point to in the code and in the tests is there."""

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest

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


def test_every_file_that_a_document_names_exists() -> None:
    assert not [name for (name,) in named(FILE) if not (ROOT / name).exists()]


def test_the_documents_name_tests_and_code() -> None:
    assert len(named(TEST)) > 40
    assert len(named(TARGET)) > 40
