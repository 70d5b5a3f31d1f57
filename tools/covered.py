"""Which part of each package's lines and branches the tests ran: python tools/covered.py COVERAGE.json

Ends with 1 when a package that does no I/O has fewer than 95 of 100 branches.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

PURE = ("attestation", "protocol", "transparency", "merkle", "model", "errors")
LEAST = 0.95


def main(report: Path) -> int:
    """Print a line for each package; the exit code."""
    packages: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for name, file in json.loads(report.read_text())["files"].items():
        package = Path(name).relative_to("src/tccp").parts[0].removesuffix(".py")
        found = file["summary"]
        numbers = (found["covered_lines"], found["num_statements"], found["covered_branches"], found["num_branches"])
        packages[package] = [sum(pair) for pair in zip(packages[package], numbers, strict=True)]
    lacking = []
    for package, (lines, all_lines, branches, all_branches) in sorted(packages.items()):
        print(f"{package:14} lines {_share(lines, all_lines):6.1%}  branches {_share(branches, all_branches):6.1%}")
        if package in PURE and _share(branches, all_branches) < LEAST:
            lacking.append(package)
    if lacking:
        print(f"fewer than {LEAST:.0%} of the branches of {', '.join(lacking)}", file=sys.stderr)
    return 1 if lacking else 0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
