"""TOML of strangers: a table, or an error of one kind."""

import pytest

from tccp.toml import parse_toml

DIGITS = "9" * 4_400
HEX = "0x" + "f" * 4_400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"a = \xff", "utf-8"),
        (b"= 1", "line 1"),
        (b"a = 2026-02-30", "date"),
        (f"a = {DIGITS}".encode(), "digits"),
        (f"a = {HEX}".encode(), "^a: a number of more than 64 bits"),
        (f"[a]\nb = [1, {{c = {HEX}}}]".encode(), "^a.b.c: a number"),
        (f"a = {1 << 63}".encode(), "64 bits"),
        (f"a = {-(1 << 63) - 1}".encode(), "64 bits"),
        (b"a = " + b"[" * 5_000, "deep"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_what_is_no_toml_is_an_error_of_one_kind(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_toml(body)


def test_the_longest_numbers_are_numbers() -> None:
    assert parse_toml(f"a = {(1 << 63) - 1}\nb = {-(1 << 63)}\nc = true".encode()) == {
        "a": (1 << 63) - 1,
        "b": -(1 << 63),
        "c": True,
    }
