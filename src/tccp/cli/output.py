"""How results reach people and programs.

A program asks for ``--json`` and gets one JSON document on standard output. A person gets text: drawn by rich on a
terminal, plain and unwrapped when it goes into a file or a pipe. Strings that came from outside are escaped on the
way to either, so that no event log can move the cursor, recolour the screen or hide a line.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tccp.printable import escape

# On a terminal; plain output carries the words alone, which is why no meaning may lie in a style only.
STYLES = {
    "ok": "green",
    "accepted": "bold green",
    "warn": "yellow",
    "fail": "bold red",
    "refused": "bold red",
}

SHORT_CELL_CHARACTERS = 34
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def print_json(document: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """One JSON document on standard output, pure ASCII; bytes are written in hexadecimal."""
    import json

    text = json.dumps(document, indent=indent, ensure_ascii=True, default=_plain)
    print(text.replace("\x7f", "\\u007f"))


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return value.hex()
    raise TypeError(f"no JSON for {type(value).__name__}")


def complain(reason: str, detail: str, hint: str) -> None:
    """An error and its hint on standard error."""
    text = f"{reason}: {detail}" if detail and reason != "usage" else detail or reason
    print(f"tccp: error: {escape(text)}", file=sys.stderr)
    if hint:
        print(f"tccp: hint: {escape(hint)}", file=sys.stderr)


def in_units(size: int) -> str:
    """A size in bytes for a person: ``20.0 GiB``."""
    value, unit = float(size), 0
    while value >= 1024 and unit + 1 < len(UNITS):
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {UNITS[unit]}" if unit else f"{size} bytes"


class Screen:
    """Standard output for a person. Every string is escaped here, so that no caller has to remember."""

    def __init__(self) -> None:
        """Draw with rich on a terminal, otherwise print plainly."""
        self._console: Any = None
        if sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb":
            from rich.console import Console

            # rich itself honours NO_COLOR. Markup and highlighting are off: strings from outside stay strings.
            self._console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it right now, in lines that have an end."""
        return self._console is not None

    def line(self, text: str = "", *, style: str = "") -> None:
        """One line; *style* is a key of `STYLES`."""
        if self._console is None:
            print(escape(text))
        else:
            self._console.print(escape(text), style=STYLES.get(style))

    def facts(self, title: str, facts: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Names and what is known of them, one a line; nothing at all when there are none."""
        pairs = list(facts.items() if isinstance(facts, Mapping) else facts)
        if not pairs:
            return
        self.line(title)
        width = max(len(escape(name)) for name, _ in pairs)
        for name, value in pairs:
            self.line(f"  {escape(name):<{width}}  {value}")

    def list(self, title: str, lines: Sequence[str], *, style: str = "") -> None:
        """A title and lines below it; nothing at all when there are none."""
        if lines:
            self.line(title)
        for line in lines:
            self.line(f"  {line}", style=style)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, style_column: int | None = None) -> None:
        """A table; on a terminal, the word in *style_column* colours itself by `STYLES`."""
        cells = [[escape(cell) for cell in row] for row in rows]
        if self._console is None:
            _print_columns(columns, cells)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for at, column in enumerate(columns):
            # What is short stays in one piece; what is long takes the rest of the line, and more lines if need be.
            short = max((len(row[at]) for row in cells), default=0) <= SHORT_CELL_CHARACTERS
            table.add_column(Text(column), overflow="fold", no_wrap=short)
        for row in cells:
            table.add_row(
                *(Text(cell, style=STYLES.get(cell, "") if at == style_column else "") for at, cell in enumerate(row))
            )
        self._console.print(table, soft_wrap=False)


def _print_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of equal width, two blanks between them, nothing cut: made for grep and awk."""
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
