"""On which line a key stands, whatever TOML it is written in."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.config.places import STATEMENT_LINES_MAX, Place, lines_of
from tccp.config.schema import toml

TEXT = """\
# a comment with = and [brackets]
name = "alpha"  # line 2

[listen]
port = 1
"quoted key" = 2
dotted.key = 3
list = [
  1, # [listen]
  2,
]
text = '''
port = 4
[tenants]
'''
[[witness]]
url = "a"
[[witness]]
url = "b"
[witness.more]
x = 1
[deep.table]
inline = { y = 1, z = [{ w = 2 }] }
"""
LINES: dict[Place, int] = {
    ("name",): 2,
    ("listen",): 4,
    ("listen", "port"): 5,
    ("listen", "quoted key"): 6,
    ("listen", "dotted", "key"): 7,
    ("listen", "list"): 8,
    ("listen", "text"): 12,
    ("witness", 0): 16,
    ("witness", 0, "url"): 17,
    ("witness", 1): 18,
    ("witness", 1, "url"): 19,
    ("witness", 1, "more"): 20,
    ("witness", 1, "more", "x"): 21,
    ("deep", "table", "inline", "y"): 23,
    ("deep", "table", "inline", "z", 0, "w"): 23,
}


@pytest.mark.parametrize(("place", "line"), LINES.items(), ids=str)
def test_the_line_of_each_key_is_found(place: Place, line: int) -> None:
    tomllib.loads(TEXT)

    assert lines_of(TEXT)[place] == line


def test_a_value_over_too_many_lines_costs_only_places() -> None:
    text = "long = [\n" + "1,\n" * STATEMENT_LINES_MAX * 10 + "]\nafter = 1\n"

    assert lines_of(text)[("after",)] == text.count("\n")


KEY = st.text("abc", min_size=1, max_size=3)
NUMBER = st.integers(-(1 << 63), (1 << 63) - 1)
VALUE = st.one_of(NUMBER, st.text("a[=\n\"'#", max_size=6), st.lists(NUMBER, max_size=3))


@given(tables=st.dictionaries(KEY, st.dictionaries(KEY, VALUE, max_size=4), max_size=4))
def test_every_place_of_a_document_is_found(tables: dict[str, dict[str, Any]]) -> None:
    lines = [f"[{table}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in keys.items())
             for table, keys in tables.items()]  # fmt: skip
    text = "".join(lines)
    places = lines_of(text)

    for table, keys in tables.items():
        assert text.split("\n")[places[(table,)] - 1] == f"[{table}]"
        for key in keys:
            assert text.split("\n")[places[(table, key)] - 1].startswith(f"{key} = ")
