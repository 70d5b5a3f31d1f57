"""All that is wrong with a configuration file, each with its line, what is allowed, and what was meant perhaps."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import FieldInfo, fields

from tccp.config.places import Place, lines_of
from tccp.config.schema import TableType, allowed, table_of
from tccp.toml import parse_toml

SHOWN_CHARACTERS = 60


class Mistake(NamedTuple):
    """One mistake.

    Args:
        line: From 1 on; 0 when the file as a whole is meant.
        key: ``listen.port``, ``witness[0].url``; empty when it is none of a key.
        problem: What is wrong, without the place.
        suggestion: What was meant, perhaps: a full sentence, or empty.
    """

    line: int
    key: str
    problem: str
    suggestion: str = ""

    def __str__(self) -> str:
        """``listen.port: 65536 is not a number from 0 to 65535``."""
        return f"{self.key}: {self.problem}" if self.key else self.problem


def find_mistakes(content: bytes, kind: type[msgspec.Struct]) -> list[Mistake]:
    """What keeps *content* from being a *kind*, in order of lines; nothing when it is one."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        return [Mistake(line, "", "not UTF-8 text", "Save the file in UTF-8.")]
    try:
        document = parse_toml(content)
    except ValueError as problem:
        found = re.search(r"at (?:line (\d+)|end of document)", str(problem))
        line = int(found[1] or text.count("\n") + 1) if found else 0
        return [Mistake(line, "", f"no TOML: {problem}", _toml_suggestion(text, problem))]
    lines = lines_of(text.replace("\r\n", "\n"))
    mistakes = [
        Mistake(_line(lines, place), _name(place), problem, suggestion)
        for place, problem, suggestion in _Search(kind).table(document, kind, ())
    ]
    return sorted(mistakes, key=lambda mistake: mistake.line)


class _Search:
    """Walks through a document beside its schema."""

    def __init__(self, root: type[msgspec.Struct]) -> None:
        self._root = root

    def table(
        self, document: dict[str, Any], kind: type[msgspec.Struct], place: Place
    ) -> Iterator[tuple[Place, str, str]]:
        known = {field.name: field for field in fields(kind)}
        wrong = False
        for name, value in document.items():
            found = (
                self._value(value, known[name], (*place, name)) if name in known else self._unknown(name, place, known)
            )
            for mistake in found:
                wrong = True
                yield mistake
        for field in known.values():
            if field.required and field.name not in document:
                wrong = True
                what = "table" if table_of(field.type) else "key"
                wanted = f"It is {allowed(field.type)}." if what == "key" else ""
                yield (*place, field.name), f"this {what} is missing", wanted
        if not wrong:
            yield from _together(document, kind, place, known)

    def _value(self, value: Any, field: FieldInfo, place: Place) -> Iterator[tuple[Place, str, str]]:
        table = table_of(field.type)
        if table is not None:
            yield from self._tables(value, table, place)
            return
        try:
            msgspec.convert(value, field.type, strict=True)
        except msgspec.ValidationError:
            yield place, f"{_shown(value)} is not {allowed(field.type)}", _near_value(value, field.type)

    def _tables(self, value: Any, table: TableType, place: Place) -> Iterator[tuple[Place, str, str]]:
        if not table.many and isinstance(value, dict):
            yield from self.table(value, table.kind, place)
        elif table.many and isinstance(value, list) and all(isinstance(each, dict) for each in value):
            for number, each in enumerate(value):
                yield from self.table(each, table.kind, (*place, number))
            if table.most is not None and len(value) > table.most:
                yield (*place, table.most), f"{len(value)} tables, and {table.most} are allowed", ""
        else:
            header = f"[[{place[-1]}]]" if table.many else f"[{place[-1]}]"
            yield place, f"{_shown(value)} is not a table", f"Write {header} on a line of its own, and its keys below."

    def _unknown(self, name: str, place: Place, known: dict[str, FieldInfo]) -> Iterator[tuple[Place, str, str]]:
        what = f"there is no such key in [{place[0]}]" if place else "there is no such key or table"
        yield (*place, name), what, _near_key(name, known, self._elsewhere(name, place))

    def _elsewhere(self, name: str, place: Place) -> list[str]:
        """The tables that have a key of this name."""
        found = []
        for field in fields(self._root):
            table = table_of(field.type)
            if field.name == name and place:
                found.append("before the first table" if table is None else f"as a table of its own, [{name}]")
            elif table is not None and name in table.kind.__struct_fields__ and field.name not in place:
                found.append(f"in [{field.name}]")
        return found


def _together(
    document: dict[str, Any], kind: type[msgspec.Struct], place: Place, known: dict[str, FieldInfo]
) -> Iterator[tuple[Place, str, str]]:
    """What is wrong though each value alone is right. Such a message may begin with the key that it is about."""
    try:
        msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as problem:
        message = str(problem).partition(" - at `$")[0]
        key, colon, rest = message.partition(": ")
        yield ((*place, key), rest, "") if colon and key in known else (place, message, "")


def _near_key(name: str, known: dict[str, FieldInfo], elsewhere: list[str]) -> str:
    if elsewhere:
        return f"It belongs {' or '.join(elsewhere)}."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"Perhaps {near[0]} was meant."
    return f"There are: {', '.join(sorted(known))}."


def _near_value(value: Any, annotation: Any) -> str:
    choices = re.findall(r'"([^"]+)"', allowed(annotation)) if isinstance(value, str) else []
    near = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.6) if choices else []
    if near:
        return f'Perhaps "{near[0]}" was meant.'
    if isinstance(value, str) and value.strip().isdecimal() and "number" in allowed(annotation):
        return "Write the number without quotation marks."
    return ""


def _toml_suggestion(text: str, problem: Exception) -> str:
    found = re.search(r"at line (\d+)", str(problem))
    line = text.split("\n")[int(found[1]) - 1] if found else ""
    if re.match(r"\s*[\w.-]+\s*=\s*[^\s\"'\[{0-9+-]", line):
        return "A text stands in quotation marks."
    return ""


def _shown(value: Any) -> str:
    """A value of the file as TOML has it, not too much of it."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def _name(place: Place) -> str:
    """``("witness", 0, "url")`` -> ``witness[0].url``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _line(lines: dict[Place, int], place: Place) -> int:
    """Of the key, or else of the table in which it is missing."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 0)
