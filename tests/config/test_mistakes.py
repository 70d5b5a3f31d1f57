"""Every mistake of a file is told, with its line, what is allowed and what was meant; and none where there is none."""

import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.config import CoordinatorConfig, NodeConfig, WitnessConfig
from tccp.config.mistakes import find_mistakes
from tccp.config.schema import toml

FULL_OF_THEM = """\
state_directory = "state"

[lisen]
port = 1

[listen]
prot = 7443
port = "7443"
seconds = 3

[tpm]
ak = "RSA"
pcrs = [0, 24]

[leases]
seconds = 1

[[witness]]
key = "a"
[[witness]]
url = "gopher://x"
key = 7

[log]
level = "inof"
format = true
"""


def told(text: str, kind: type[msgspec.Struct] = CoordinatorConfig) -> list[tuple[int, str, str, str]]:
    return [tuple(each) for each in find_mistakes(text.encode(), kind)]


def test_all_mistakes_are_told_at_once_in_order_of_lines() -> None:
    assert told(FULL_OF_THEM) == [
        (1, "state_directory", '"state" is not an absolute path', ""),
        (3, "lisen", "there is no such key or table", "Perhaps listen was meant."),
        (7, "listen.prot", "there is no such key in [listen]", "Perhaps port was meant."),
        (
            8,
            "listen.port",
            '"7443" is not a number from 0 to 65535',
            "Write the number without quotation marks.",
        ),
        (9, "listen.seconds", "there is no such key in [listen]", "It belongs in [leases]."),
        (12, "tpm.ak", '"RSA" is not one of "ecc", "rsa"', 'Perhaps "rsa" was meant.'),
        (13, "tpm.pcrs", "[0, 24] is not a list, each a number from 0 to 23; at least 1 of them", ""),
        (16, "leases.seconds", "1 is not a number from 2 to 86400", ""),
        (18, "witness[0].url", "this key is missing", "It is an http:// or https:// URL."),
        (21, "witness[1].url", '"gopher://x" is not an http:// or https:// URL', ""),
        (22, "witness[1].key", "7 is not a text", ""),
        (25, "log.level", '"inof" is not one of "debug", "error", "info", "warning"', 'Perhaps "info" was meant.'),
        (26, "log.format", 'true is not one of "auto", "console", "json"', ""),
    ]


ALONE = {
    "values that do not go together": ('[log_server]\nkey = "/k"', 1, "log_server", "both or neither", ""),
    "PCRs that prove nothing": ("[tpm]\n\npcrs = [16]", 3, "tpm.pcrs", "software can reset them", ""),
    "a table that is a number": ("tpm = 1", 1, "tpm", "1 is not a table", "[tpm]"),
    "an array of tables that is one": ("[witness]", 1, "witness", "not a table", "[[witness]]"),
    "too many tables": ("[[witness]]\nurl='http://a'\nkey='a'\n" * 9, 25, "witness[8]", "9 tables, and 8", ""),
    "a table in the wrong place": ("[tpm.listen]", 1, "tpm.listen", "no such key in [tpm]", "[listen]"),
    "a key of the top in a table": ("[tpm]\nstate_directory='/x'", 2, "tpm.state_directory", "no", "before the first"),
    "a text without quotation marks": ("[log]\nlevel = info", 2, "", "no TOML", "quotation marks"),
    "a line that is nothing": ("\n\nhallo\n", 3, "", "no TOML", ""),
    "a number without end": (f"[listen]\nport = {'9' * 4_400}\n", 0, "", "no TOML", ""),
    "a number of more bits than there are": (f"[listen]\nport = 0x{'f' * 4_400}\n", 0, "", "listen.port: a number", ""),
    "too deep a list": (f"a = {'[' * 5_000}", 0, "", "nested too deeply", ""),
    "a text of other bytes": (b"\n\n\xff", 3, "", "not UTF-8", ""),
}


@pytest.mark.parametrize(("text", "line", "key", "problem", "suggestion"), ALONE.values(), ids=ALONE)
def test_a_mistake_is_told_with_its_place(
    text: str | bytes, line: int, key: str, problem: str, suggestion: str
) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    (first,) = find_mistakes(content, CoordinatorConfig)

    assert first.line == line
    assert first.key == key
    assert problem in first.problem
    assert suggestion in first.suggestion


def test_what_a_node_must_say_is_missed() -> None:
    assert [(each.line, each.key) for each in find_mistakes(b"", NodeConfig)] == [(0, "name"), (0, "coordinator")]
    assert told('name = "Alpha"\n[coordinator]\naddress = "x:0"\ntrust_file = "/t"\n', NodeConfig) == [
        (3, "coordinator.address", "0 is not a TCP port", ""),
    ]


def test_a_long_value_is_not_repeated_whole() -> None:
    (mistake,) = find_mistakes(f'state_directory = "{"x" * 5000}"'.encode(), CoordinatorConfig)

    assert len(mistake.problem) < 120


VALUES = st.recursive(
    st.booleans() | st.integers(-2, 70_000) | st.sampled_from(["", "/x", "rsa", "http://x", "a\n"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["port", "url", "key", "pcrs", "ak", "level", "name", "y"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", [CoordinatorConfig, NodeConfig, WitnessConfig])
@given(data=st.data())
def test_there_are_mistakes_just_where_the_daemon_would_not_start(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    names = st.sampled_from([*kind.__struct_fields__, "x"])
    document = data.draw(st.dictionaries(names, VALUES, max_size=5))
    text = "".join(f"{name} = {inline(value)}\n" for name, value in document.items())
    assert tomllib.loads(text) == document

    try:
        msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError:
        assert find_mistakes(text.encode(), kind)
    else:
        assert find_mistakes(text.encode(), kind) == []


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {inline(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return toml(value)
