"""What benchmarks share: where they leave what they measured, for bench/report.py to write down."""

import json
import os
import platform
import time
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "build" / "bench"


class Section:
    """One section of bench/RESULTS.md: some words, and rows of one table.

    Args:
        title: Its heading.
        words: What was measured, against what, and how to read it.
        columns: The heading of the table.
    """

    def __init__(self, title: str, words: str, columns: list[str]) -> None:
        self.title = title
        self.words = words
        self.columns = columns
        self.rows: list[list[str]] = []

    def save(self) -> None:
        """Leave it in build/bench, over what an earlier run left."""
        processor = next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            platform.machine(),
        )
        saved = {
            "title": self.title,
            "words": self.words,
            "columns": self.columns,
            "rows": self.rows,
            "machine": f"{processor}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
            "day": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{self.title.lower().replace(' ', '_')}.json").write_text(json.dumps(saved, indent=1))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return Path(__file__).parents[1]
