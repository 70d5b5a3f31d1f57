"""What mutmut found, as the changed lines: python tools/mutants/report.py MUTANTS_FOLDER

A mutant that only changed what an error says to people (its detail or hint) is counted and not shown: tests match the
reason. Ends with 1 when others survived.
"""

import ast
import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SURVIVED, NO_TESTS = 0, 33  # exit codes of pytest as mutmut keeps them: all passed; none was there
NAME = re.compile(r"(?P<function>.+)__mutmut_(?P<number>\d+)$")
REASON = re.compile(r"\w+Error\((['\"])[a-z_0-9]+\1|_bad\(|malformed\(|_malformed\(")


class Survivor(NamedTuple):
    """A mutant that no test noticed."""

    function: str
    number: int
    change: tuple[str, ...]  # lines behind "-" and "+"
    tested: bool

    @property
    def is_text(self) -> bool:
        """Whether the same reason is given, with other words."""
        reasons = {match[0] if (match := REASON.search(line)) else "" for line in self.change}
        return len(reasons) == 1 and "" not in reasons and "XX" not in "".join(reasons)


def survivors(folder: Path) -> Iterator[Survivor]:
    """Of all files that were mutated below *folder*."""
    for meta in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        wanted = {key.rpartition(".")[2]: code for key, code in codes.items() if code in {SURVIVED, NO_TESTS}}
        if wanted:
            source = meta.with_suffix("").read_text()
            yield from _shown(source, meta.with_suffix("").stem, wanted)


def _shown(source: str, module: str, wanted: dict[str, int]) -> Iterator[Survivor]:
    functions = {
        node.name: ast.get_source_segment(source, node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name
    }
    for name, code in wanted.items():
        match = NAME.match(name)
        assert match is not None
        before = functions[f"{match['function']}__mutmut_orig"].splitlines()[1:]
        after = functions[name].splitlines()[1:]
        lines = difflib.unified_diff(before, after, n=0, lineterm="")
        change = tuple(line for line in lines if line[0] in "+-" and line[:3] not in {"+++", "---"})
        function = f"{module}.{match['function'].removeprefix('x_').replace('xǁ', '').replace('ǁ', '.')}"
        yield Survivor(function, int(match["number"]), change, code == SURVIVED)


def main(folder: Path) -> int:
    """Print the survivors; the exit code."""
    counts: Counter[str] = Counter()
    for meta in folder.rglob("*.py.meta"):
        codes = json.loads(meta.read_text())["exit_code_by_key"].values()
        counts.update("not run" if code is None else "survived" if code == SURVIVED else "found" for code in codes)
    found = list(survivors(folder))
    shown = [survivor for survivor in found if not survivor.is_text]
    for survivor in shown:
        print(f"{survivor.function} ({survivor.number}){'' if survivor.tested else ': no test runs it'}")
        for line in survivor.change:
            print(f"    {line[0]} {line[1:].strip()}")
    texts = len(found) - len(shown)
    print(f"{dict(counts)}; {texts} changed only what an error says, {len(shown)} others are shown above")
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
