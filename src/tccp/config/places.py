"""On which line of a TOML file each key stands; tomllib does not say.

The file is cut into statements, each the fewest lines that are TOML by themselves: a header, or a key with its value.
"""

import re
from typing import Any, TypeAlias

from tccp.toml import parse_toml

# ("listen", "port"), ("witness", 0, "url"): names of keys, and indexes of tables in arrays.
Place: TypeAlias = tuple[str | int, ...]

# A value over more lines is not looked for: only the line where it begins is lost with it.
STATEMENT_LINES_MAX = 200
BEGINNING = re.compile(r"\s*(\[|#|$|[\w\"'-].*=)")


def lines_of(text: str) -> dict[Place, int]:
    """The line, from 1 on, of each table and of each key with a value in *text*, which is legal TOML."""
    lines = text.split("\n")
    found: dict[Place, int] = {}
    table: Place = ()
    at = 0
    while at < len(lines):
        statement, length = _statement(lines, at)
        if lines[at].lstrip().startswith("["):
            table = _entered(statement, found)
            found[table] = at + 1
        else:
            _keys(statement, table, at + 1, found)
        at += length
    return found


def _statement(lines: list[str], at: int) -> tuple[dict[str, Any], int]:
    """The statement that begins at a line, and over how many it goes."""
    if not BEGINNING.match(lines[at]):  # the rest of a value that was too long
        return {}, 1
    for length in range(1, min(STATEMENT_LINES_MAX, len(lines) - at) + 1):
        try:
            return parse_toml("\n".join(lines[at : at + length]).encode()), length
        except ValueError:
            continue
    return {}, 1


def _entered(header: dict[str, Any], found: dict[Place, int]) -> Place:
    """The place of the table that a header begins: ``{"a": [{}]}`` is the next one of the array a."""
    place: Place = ()
    here: Any = header
    while here:
        if isinstance(here, list):
            number = sum(1 for each in found if each[:-1] == place and isinstance(each[-1], int))
            place, here = (*place, number), here[0]
        else:
            ((name, here),) = here.items()
            place = (*place, name)
            numbers = [each[-1] for each in found if each[:-1] == place and isinstance(each[-1], int)]
            if numbers and isinstance(here, dict):
                place = (*place, max(int(number) for number in numbers))  # a table below the newest of an array
    return place


def _keys(value: Any, place: Place, line: int, found: dict[Place, int]) -> None:
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, inner in items:
        found.setdefault((*place, name), line)
        _keys(inner, (*place, name), line, found)
