"""Command lines are read as the kernel reads them, and rules hold against every way to write around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation.command_line import CommandLineRules, matches, problems, words

RULES = CommandLineRules(("lockdown=integrity", "module.sig_enforce=1"), ("init=*", "debug", "systemd.debug*"))
GOOD = "/vmlinuz ro lockdown=integrity module.sig_enforce=1"


def test_a_line_with_what_is_required_and_nothing_forbidden_conforms() -> None:
    assert problems(GOOD, RULES) == ()


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
        (GOOD + " x" * 3000, "4096 are allowed"),
    ],
)
def test_a_line_that_goes_around_the_rules_does_not(line: str, told: str) -> None:
    assert any(told in problem for problem in problems(line, RULES))


def test_words_are_split_as_the_kernel_does() -> None:
    assert words('a  b="c d" "e f" g-h=i-j "" k') == ("a", "b=c d", "e f", "g_h=i-j", "", "k")


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [("a*c", "abc", True), ("a*c", "ac", True), ("a*c", "acb", False), ("a[b]", "a[b]", True), ("a?", "ab", False)],
)
def test_a_star_is_all_that_is_special(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@given(st.text(max_size=60))
def test_any_text_conforms_to_itself(text: str) -> None:
    if "*" not in text:
        assert matches(text, text)
    words(text)
