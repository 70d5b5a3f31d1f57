"""What benchmarks share: where they leave what they measured, for bench/report.py to write down."""

import json
import os
import platform
import time
from pathlib import Path

import pytest

from bench.chart import Panel

RESULTS = Path(__file__).parents[1] / "build" / "bench"


class Section:
    """One section of bench/RESULTS.md: some words, and rows of one table.

    Args:
        title: Its heading.
        words: What was measured, against what, and how to read it.
        columns: The heading of the table.

    Panels in `charts` are drawn beside each other below the table.
    """

    def __init__(self, title: str, words: str, columns: list[str]) -> None:
        self.title = title
        self.words = words
        self.columns = columns
        self.rows: list[list[str]] = []
        self.charts: list[Panel] = []

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
            "charts": self.charts,
            "machine": f"{processor}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
            "day": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{slug(self.title)}.json").write_text(json.dumps(saved, indent=1))


def slug(title: str) -> str:
    """A name for files: ``"Sealed images"`` is ``sealed_images``."""
    return title.lower().replace(" ", "_")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return Path(__file__).parents[1]
