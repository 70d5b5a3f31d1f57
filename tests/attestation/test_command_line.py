"""Command lines are read as the kernel reads them, and rules hold against every way to write around them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation.command_line import CommandLineRules, matches, problems, words

RULES = CommandLineRules(("lockdown=integrity", "module.sig_enforce=1"), ("init=*", "debug", "systemd.debug*"))
GOOD = "/vmlinuz ro lockdown=integrity module.sig_enforce=1"


def test_a_line_with_what_is_required_and_nothing_forbidden_conforms() -> None:
    assert problems(GOOD, RULES) == ()


@pytest.mark.parametrize("word", ['"lockdown=integrity"', 'lockdown="integrity"'])
def test_quotes_around_a_word_or_its_value_change_nothing(word: str) -> None:
    assert problems(GOOD.replace("lockdown=integrity", word), RULES) == ()
    assert problems(f"{GOOD} x=\"\" y=''", RULES) == ()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/vmlinuz ro lockdown=integrity", "module.sig_enforce=1 is missing"),
        (f"{GOOD} lockdown=none", "lockdown=none contradicts"),
        (f"{GOOD} lockdown", "lockdown contradicts"),
        (f"{GOOD} module.sig-enforce=0", "module.sig_enforce=0 contradicts"),
        (f"{GOOD} init=/bin/sh", "init=/bin/sh is forbidden"),
        (f'{GOOD} "init=/bin/sh"', "init=/bin/sh is forbidden"),
        (f'{GOOD} init="/bin/sh -c x"', "init=/bin/sh -c x is forbidden"),
        (f"{GOOD} debug", "debug is forbidden"),
        (f'{GOOD} de"bu"g', "debug is forbidden"),
        (f"{GOOD} systemd.debug-shell=1", "systemd.debug_shell=1 is forbidden"),
        ("/vmlinuz -- lockdown=integrity module.sig_enforce=1", "lockdown=integrity is missing"),
        ('/vmlinuz "lockdown=integrity module.sig_enforce=1"', "lockdown=integrity is missing"),
        (f"{GOOD}\xa0init=/bin/sh", "characters that the kernel may read differently"),
        (f"{GOOD}\ninit=/bin/sh", "characters that the kernel may read differently"),
        (f"{GOOD}\0init=/bin/sh", "characters that the kernel may read differently"),
        (f'{GOOD} x="a init=/bin/sh b"', "init=/bin/sh is forbidden"),
        (f"{GOOD} x='a debug b'", "debug is forbidden"),
        (f"""{GOOD} x="a 'init=/x' b\"""", "init=/x is forbidden"),
        (f"""{GOOD} x='a "init=/x" b'""", "init=/x is forbidden"),
        (f"{GOOD} sys'temd.debug'-shell=1", "systemd.debug_shell=1 is forbidden"),
        (f'{GOOD} x="a lockdown=none b"', "lockdown=none contradicts"),
        (GOOD + " x" * 1000, "2047 are allowed"),
    ],
)
def test_a_line_that_goes_around_the_rules_does_not(line: str, told: str) -> None:
    assert any(told in problem for problem in problems(line, RULES))


@pytest.mark.parametrize("word", ["run='a b'", 'run="a b"', "'run=a b'", "run='a 'b", "empty=''", 'empty=""'])
def test_a_word_with_blanks_in_it_is_forbidden_in_quotes_of_either_kind(word: str) -> None:
    rules = CommandLineRules((), ("run=a b", "empty="))

    assert problems(f"/vmlinuz {word}", rules)
    assert not problems("/vmlinuz run=a", rules)


def test_letters_are_no_quotes() -> None:
    assert problems(GOOD.replace("/vmlinuz ro", "X=1 /vmlinuz ro") + " X=2", RULES) == ()


@pytest.mark.parametrize(
    "word", ['lockdown="int"egrity', 'lockdown=integ"rity"', 'lock"down"=integrity', '"lockdown"=integrity']
)
def test_a_quote_inside_of_a_word_makes_it_another_for_the_kernel(word: str) -> None:
    line = GOOD.replace("lockdown=integrity", word)

    assert "lockdown=integrity" in line.replace('"', "").split()  # the control: who drops all quotes finds it
    assert "lockdown=integrity is missing" in problems(line, RULES)


def test_what_systemd_takes_for_a_part_of_something_else_is_not_there() -> None:
    line = f"x=' {GOOD} '"

    assert "lockdown=integrity" in words(line)  # the control: single quotes mean nothing to the kernel
    assert "lockdown=integrity is missing" in problems(line, RULES)


def test_a_word_that_the_kernel_does_not_read_any_more_is_not_there() -> None:
    """Of a line of 2048 characters, the last one makes room for the NUL."""
    filling = f"/vmlinuz module.sig_enforce=1 {'x' * 2047}"
    fits = f"{filling[: 2047 - len(' lockdown=integrity')]} lockdown=integrity"

    assert (len(fits), problems(fits, RULES)) == (2047, ())
    assert problems(fits.replace("x ", "xx "), RULES) == ("it has 2048 characters, 2047 are allowed",)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('a  b="c d" "e f" g-h=i-j "" k', ("a", "b=c d", "e f", "g_h=i-j", "", "k")),
        ('"a=b c" d', ("a=b c", "d")),
        ('a"b"c d="e"f g=h"i" "j"k', ('a"b"c', 'd=e"f', 'g=h"i"', 'j"k')),
        ('a="b c', ("a=b c",)),
        ('a=b="c"', ('a=b="c"',)),
        ('="a" =b="c"', ('="a"', "=b=c")),
        ("a='b c'", ("a='b", "c'")),
    ],
)
def test_words_are_split_and_unquoted_as_the_kernel_does(line: str, expected: tuple[str, ...]) -> None:
    assert words(line) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a*c", "abc", True),
        ("a*c", "ac", True),
        ("a*c", "acb", False),
        ("a[b]", "a[b]", True),
        ("a?", "ab", False),
        ("ab*ba", "aba", False),  # one letter is not the end of one part and the beginning of another
        ("a*ba*bc", "abac", False),
        ("a*abc", "bc", False),
        ("*a*", "b\na", True),
        ("", "", True),
        ("*", "", True),
    ],
)
def test_a_star_is_all_that_is_special(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@given(st.text("ab*\n", max_size=8), st.text("ab\n", max_size=12))
def test_parts_are_found_where_an_expression_finds_them(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, text) is (re.fullmatch(expression, text, re.DOTALL) is not None)


@given(st.text(max_size=60))
def test_any_text_conforms_to_itself(text: str) -> None:
    if "*" not in text:
        assert matches(text, text)
    words(text)
