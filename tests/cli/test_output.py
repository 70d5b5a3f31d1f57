"""What a person or a program gets to see, with strings from outside in it."""

import argparse
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.cli.arguments import text_of, utc_time
from tccp.cli.control import LAST_MS, moment
from tccp.cli.output import Screen, complain, print_json
from tccp.printable import escape

HOSTILE = [
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]0;title\x07",  # rename the window
    "line\nforged line",
    "carriage\rreturn",
    "back\x08space",
    "\x9b31m",  # CSI in one character (C1)
    "right \u202eto left",
    "zero\u200bwidth",
    "line\u2028separator",
    "lone \udc80 surrogate",
    "[bold red]markup[/] [link=file:///x]y[/link]",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_an_escaped_string_is_one_printable_line(text: str) -> None:
    assert escape(text).isprintable()


@settings(deadline=None)
@given(st.text())
def test_no_string_whatever_comes_out_unprintable(text: str) -> None:
    assert escape(text).isprintable()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"])))
def test_a_printable_string_is_left_alone(text: str) -> None:
    assert escape(text) == text


def test_the_control_without_escaping_such_strings_do_reach_the_terminal() -> None:
    assert all(not text.isprintable() for text in HOSTILE[:-1])


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_output_carries_no_control_character(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.line(text)
    screen.facts(text, {text: text})
    screen.table(("what",), [(text,)])
    complain("reason", text, text)

    shown = capsys.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert all(line.isprintable() for line in lines)
    # one line + heading and fact + heading and row + error and hint: nothing forged a line of its own
    assert len(lines) == 7


@pytest.mark.parametrize("text", HOSTILE)
def test_on_a_terminal_only_our_own_colours_are_escape_sequences(text: str) -> None:
    draw = (
        "import sys\nfrom tccp.cli.output import Screen\nsys.stdout.isatty = lambda: True\ntext = sys.argv[1]\n"
        "screen = Screen()\nscreen.line(text, style='ok')\nscreen.facts(text, {text: text})\n"
        "screen.table(('what', 'is'), [(text, 'refused')], style_column=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", draw, text],
        capture_output=True,
        check=True,
        env={"TERM": "xterm", "COLUMNS": "300", "FORCE_COLOR": "1", "PYTHONUTF8": "1"},
    )

    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode())
    assert all(line.isprintable() for line in without_colours.split("\n"))
    assert escape(text) in without_colours
    assert "\x1b[1;31mrefused" in done.stdout.decode()


def test_json_is_pure_ascii_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"texts": HOSTILE, "delete": "\x7f", "bytes": b"\x00\xff", "number": 2**63}
    print_json(document)

    shown = capsys.readouterr().out
    assert all(" " <= character < "\x7f" for character in shown.replace("\n", ""))
    assert json.loads(shown) == document | {"bytes": "00ff"}


def test_plain_tables_line_up_and_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(("name", "value"), [("a", "x" * 500), ("longer", "y")])

    assert capsys.readouterr().out.splitlines() == ["NAME    VALUE", f"a       {'x' * 500}", "longer  y"]


def test_what_json_cannot_say_is_a_bug() -> None:
    with pytest.raises(TypeError):
        print_json({"set": {1}})


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "-"),
        (-1, "-"),
        (1, "1970-01-01 00:00:00 UTC"),
        (LAST_MS, "9999-12-31 23:59:59 UTC"),
        (LAST_MS + 1000, "after the year 9999"),
        (1000 * (1 << 64), "after the year 9999"),
    ],
)
def test_a_time_that_somebody_else_says_is_shown_whatever_it_is(at_ms: int, text: str) -> None:
    assert moment(at_ms) == text


def test_a_time_on_a_command_line_is_one_of_utc_wherever_it_was_said() -> None:
    assert utc_time("2026-11-23T12:00+02:00").isoformat() == "2026-11-23T10:00:00+00:00"
    assert utc_time("2026-11-23T12:00").isoformat() == "2026-11-23T12:00:00+00:00"


def test_what_no_daemon_would_take_is_said_before_it_is_asked() -> None:
    assert text_of(8)("schön") == "schön"
    for text, complaint in (("x" * 9, "9 characters, and 8 are allowed"), ("a\nb", "cannot be printed")):
        with pytest.raises(argparse.ArgumentTypeError, match=complaint):
            text_of(8)(text)
