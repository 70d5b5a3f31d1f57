"""The bars that were set before anything was built, and whether what was measured reaches them.

A bar is about some rows of one section's table, and about the worst of them. Cells are read as they were written, so
that sections that were not measured this time count, too.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

TITLE = "Bars"
WORDS = (
    "What each piece of work had to reach, and the worst row that says so; day and machine stand in its section. What "
    "is missed is named; where a peer is the limit of the machine, what that one reaches stands beside a miss."
)
COLUMNS = ("work", "against", "bar", "measured", "", "section and row")

Row = dict[str, str]  # heading -> cell
Reading = Callable[[Row], float]


class Bar(NamedTuple):
    """What some work must reach.

    Args:
        work: In a few words.
        peer: Whom it is measured against; empty where it is a figure of its own.
        section: The title of the section.
        rows: Which of its rows, by how they begin: cells with ``, `` between them.
        read: What to take from a row.
        bar: At least that; at most, where *most*.
        limit: The peer that does nothing but move the data: what it reaches in the same terms, where it is that.
    """

    work: str
    peer: str
    section: str
    rows: str
    read: Reading
    bar: float
    most: bool = False
    limit: Reading | None = None


def number(column: str) -> Reading:
    """The number that a cell begins with: ``"4,451"``, ``"94 ms"``."""

    def read(row: Row) -> float:
        found = re.match(r"[\d,]+(?:\.\d+)?", row[column])
        assert found, f"{row[column]!r} is no number"
        return float(found[0].replace(",", ""))

    return read


def bracket(column: str) -> Reading:
    """The ratio that stands in brackets: ``"63,925 (4.02)"``, ``"63 (830x)"``."""

    def read(row: Row) -> float:
        found = re.search(r"\(([\d,]+(?:\.\d+)?)x?\)", row[column])
        assert found, f"{row[column]!r} has no ratio"
        return float(found[1].replace(",", ""))

    return read


def ratio(column: str, peer: str) -> Reading:
    """One cell by another."""
    ours, theirs = number(column), number(peer)
    return lambda row: ours(row) / theirs(row)


SINGLE, BATCH = "Quotes in C", "Quotes through Python"
KEYS = "RSA-2048|P-256|P-384"
NBD, SEALED = "Live disks over NBD", "Sealed images"
LUKS, RAW, NBDKIT = "qemu-nbd LUKS", "qemu-nbd raw", "nbdkit file"
DENSE, SPARSE = "(seal|open) dense", "(seal|open) VM-like"

BARS = (
    Bar("verify a quote in C", "libcrypto", SINGLE, KEYS, bracket("single"), 0.9),
    Bar("verify quotes in batches, with IFMA", "libcrypto", SINGLE, KEYS, bracket("batch, lanes"), 3),
    Bar("verify quotes in batches, without", "libcrypto", SINGLE, KEYS, bracket("batch, no lanes"), 0.9),
    Bar("verify a quote in Python, RSA", "Keylime", BATCH, "RSA-2048, RSASSA", bracket("single"), 6),
    Bar("verify a quote in Python, P-256", "Keylime", BATCH, "P-256", bracket("single"), 3),
    Bar("verify quotes in Python, P-256, in batches", "Keylime", BATCH, "P-256", bracket("batch"), 8),
    Bar("a whole attestation, nothing new in the list", "Keylime", "IMA", "quote verified", number("ratio"), 500),
    Bar("replay and judge a list of IMA", "Keylime", "IMA", "replay and judge", number("ratio"), 20),
    Bar("replay and judge a list of IMA in ASCII", "Keylime", "IMA", "the same list in ASCII", number("ratio"), 20),
    Bar("load a million digests, ms", "", "IMA", "load", number("tccp"), 100, most=True),
    Bar("a million digests, MiB", "", "IMA", "their size", number("tccp"), 64, most=True),
    Bar("parse and replay a firmware log", "Keylime", "Firmware event logs", "", bracket("all banks"), 100),
    Bar("renewals a second, one core, any round trip", "", "Nodes", "10,000, storm", number("a second"), 5000),
    Bar("renewals a second, 5,000 nodes", "", "Coordinator", "renewals", number("a second"), 5000),
    Bar("seal and open a dense image", "cat", SEALED, DENSE, bracket("cat"), 0.8),
    Bar("seal and open a dense image", "age", SEALED, DENSE, bracket("age"), 1.5, limit=ratio("cat", "age")),
    Bar(
        "seal and open a dense image",
        "qemu-img LUKS",
        SEALED,
        DENSE,
        bracket("qemu-img LUKS"),
        5,
        limit=ratio("cat", "qemu-img LUKS"),
    ),
    Bar("cipher of 2 GiB, s of CPU", "", SEALED, DENSE, number("CPU of the cipher, s"), 0.25, most=True),
    Bar("seal and open an image with holes", "age", SEALED, SPARSE, bracket("age"), 4),
    Bar("seal and open an image with holes", "qemu-img LUKS", SEALED, SPARSE, bracket("qemu-img LUKS"), 12),
    Bar("NBD, in sequence", LUKS, NBD, "(read|write) 256k", ratio("tccp", LUKS), 5, limit=ratio(NBDKIT, LUKS)),
    Bar("NBD, in sequence", RAW, NBD, "(read|write) 256k", ratio("tccp", RAW), 1),
    Bar("NBD, random blocks", LUKS, NBD, "random", ratio("tccp", LUKS), 4, limit=ratio(NBDKIT, LUKS)),
    Bar("NBD, random blocks", NBDKIT, NBD, "random", ratio("tccp", NBDKIT), 1),
    Bar("flush of 1 random block", "in place", "Flush of random blocks", "1, ", number("ratio"), 1.3, most=True),
    Bar("flush of 16", "in place", "Flush of random blocks", "16, ", number("ratio"), 0.5, most=True),
    Bar("flush of 256", "in place", "Flush of random blocks", "256, ", number("ratio"), 0.2, most=True),
    Bar("a revocation is acknowledged, ms", "", "Revocation", "", number("slowest"), 2000, most=True),
    Bar(
        "entries a second into the log, in groups", "", "Appending to the log", "4,096", number("entries a second"), 2e4
    ),
    Bar("events a second into the log", "", "From the store to the log", "behind", number("entries a second"), 2e4),
    Bar("events a second, while they come", "", "From the store to the log", "live", number("entries a second"), 2e4),
    Bar(
        "a proof from ten million entries, ms",
        "",
        "Proofs from the log",
        "inclusion",
        number("99 of 100"),
        10,
        most=True,
    ),
)


def table_of(section: str) -> list[Row]:
    """The rows of the table in a section of Markdown."""
    lines = [line[2:-2].split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [dict(zip(map(str.strip, lines[0]), map(str.strip, row), strict=True)) for row in lines[1:]]


def judge(bar: Bar, rows: Iterable[Row]) -> list[str]:
    """A row of the table of bars."""
    wanted = f"{'<=' if bar.most else '>='} {bar.bar:,g}"
    found = [(bar.read(row), row) for row in rows if re.match(bar.rows, _name(row))]
    if not found:
        return [bar.work, bar.peer, wanted, "-", "not measured", bar.section]
    value, row = (max if bar.most else min)(found, key=lambda each: each[0])
    is_met = value <= bar.bar if bar.most else value >= bar.bar
    verdict = "met" if is_met else "**missed**"
    if bar.limit is not None and not is_met:
        verdict += f" (the limit: {bar.limit(row):,.2f})"
    return [bar.work, bar.peer, wanted, f"{value:,.4g}" if value < 1000 else f"{value:,.0f}", verdict, _place(bar, row)]


def _name(row: Row) -> str:
    return ", ".join(row.values())


def _place(bar: Bar, row: Row) -> str:
    """Section and row; as many cells as it takes to know the row."""
    cells = list(row.values())
    words = 3 if bar.section == "Nodes" else 1
    return f"{bar.section}: {', '.join(cells[:words])}"


def section_of_bars(sections: dict[str, str]) -> dict[str, Any]:
    """The section that says which bars are met.

    Args:
        sections: Those that were measured, in Markdown, by title.
    """
    tables = {title: table_of(text) for title, text in sections.items()}
    return {
        "title": TITLE,
        "words": WORDS,
        "columns": list(COLUMNS),
        "rows": [judge(bar, tables.get(bar.section, [])) for bar in BARS],
    }
