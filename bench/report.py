"""Write what the benchmarks measured into bench/RESULTS.md: python -m bench.report

Each file in build/bench/*.json is one section (see `bench.conftest.Section`); sections that were not measured this time
stay as they are. Charts are drawn into files beside it. The first section says which bars are met (`bench.bars`); it is
made anew each time.
"""

import json
import re
from pathlib import Path
from typing import Any

from bench import bars
from bench.chart import draw_chart
from bench.conftest import slug

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
HEADER = "# Measured\n\nWritten by `python -m bench.report` from what `make bench` measured; not by hand.\n"


def render(section: dict[str, Any]) -> str:
    """One section in Markdown."""
    lines = [f"## {section['title']}", "", section["words"], ""]
    if "day" in section:
        lines += [f"{section['day']}, {section['machine']}.", ""]
    lines.append("| " + " | ".join(section["columns"]) + " |")
    lines.append("|" + "---|" * len(section["columns"]))
    lines += ["| " + " | ".join(row) + " |" for row in section["rows"]]
    if section.get("charts"):
        lines += ["", f"![{section['title']}]({slug(section['title'])}.png)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replace the sections for which there are new numbers."""
    written = RESULTS.read_text() if RESULTS.exists() else HEADER
    header, *parts = re.split(r"^(?=## )", written, flags=re.MULTILINE)
    sections = {part.split("\n", 1)[0].removeprefix("## "): part.rstrip() + "\n" for part in parts}
    for path in sorted((HERE.parent / "build" / "bench").glob("*.json")):
        section = json.loads(path.read_text())
        sections[section["title"]] = render(section)
        if section.get("charts"):
            draw_chart(section["charts"], HERE / f"{slug(section['title'])}.png")
    sections.pop(bars.TITLE, None)
    first = render(bars.section_of_bars(sections))
    RESULTS.write_text("\n".join([header.rstrip() + "\n", first, *(sections[title] for title in sorted(sections))]))
    print(f"{RESULTS.name}: {', '.join(sorted(sections))}")


if __name__ == "__main__":
    main()
