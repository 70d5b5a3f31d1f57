"""What was measured is held against the bars, and a bar that is missed is named."""

import re
from pathlib import Path

import pytest

from bench import bars
from bench.report import render

BENCH = Path(__file__).parents[2] / "bench"
SECTION = {
    "title": "Quotes in C",
    "words": "words",
    "day": "2026-11-27",
    "machine": "m",
    "columns": ["key", "libcrypto", "single", "batch, lanes", "batch, no lanes"],
    "rows": [
        ["RSA-2048, RSASSA", "52,452", "125,659 (2.40)", "216,994 (4.14)", "69,877 (1.14)"],
        ["P-256", "15,911", "12,000 (0.75)", "147,022 (9.24)", ""],
        ["P-521", "1", "0 (0.01)", "0 (0.01)", "0 (0.01)"],
    ],
}


def judged(section: dict[str, object], bar: bars.Bar) -> list[str]:
    return bars.judge(bar, bars.table_of(render(section)))


def bar(read: bars.Reading, level: float, *, most: bool = False, limit: bars.Reading | None = None) -> bars.Bar:
    return bars.Bar("verify", "libcrypto", "Quotes in C", "RSA-2048|P-256", read, level, most=most, limit=limit)


def test_the_worst_row_that_a_bar_is_about_counts() -> None:
    assert judged(SECTION, bar(bars.bracket("batch, lanes"), 3))[3:] == ["4.14", "met", "Quotes in C: RSA-2048, RSASSA"]


def test_a_bar_that_is_missed_is_named() -> None:
    assert judged(SECTION, bar(bars.bracket("single"), 0.9))[2:5] == [">= 0.9", "0.75", "**missed**"]
    assert judged(SECTION, bar(bars.number("libcrypto"), 50_000, most=True))[2:5] == [
        "<= 50,000",
        "52,452",
        "**missed**",
    ]


def test_beside_a_miss_stands_what_the_machine_allows() -> None:
    row = judged(SECTION, bar(bars.bracket("single"), 0.9, limit=bars.ratio("libcrypto", "libcrypto")))

    assert row[4] == "**missed** (the limit: 1.00)"


def test_what_was_not_measured_is_not_taken_for_met() -> None:
    assert judged({**SECTION, "rows": SECTION["rows"][2:]}, bar(bars.bracket("single"), 0.9))[4] == "not measured"


def test_a_cell_without_a_figure_is_no_figure() -> None:
    with pytest.raises(AssertionError, match="has no ratio"):
        judged(SECTION, bar(bars.bracket("batch, no lanes"), 0.9))


def test_every_bar_is_about_a_section_and_a_column_that_a_benchmark_writes() -> None:
    source = "".join(path.read_text() for path in BENCH.glob("bench_*.py"))
    sections = {each.section for each in bars.BARS}

    assert not {title for title in sections if f'"{title}"' not in source}
    assert len(bars.BARS) > 25


def test_every_bar_finds_its_row_where_its_section_was_measured() -> None:
    parts = re.split(r"^## ", (BENCH / "RESULTS.md").read_text(), flags=re.MULTILINE)[1:]
    sections = {part.split("\n", 1)[0]: part for part in parts}
    measured = [each for each in bars.BARS if each.section in sections]

    rows = {each: bars.judge(each, bars.table_of(sections[each.section])) for each in measured}

    assert len(measured) > 20
    assert not [each for each, row in rows.items() if row[4] == "not measured"]
