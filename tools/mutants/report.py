"""What mutmut found, as the changed lines and a count by package: python tools/mutants/report.py MUTANTS_FOLDER

A mutant that only changed what an error says to people (its detail or hint) is counted and not shown: tests match the
reason, and many find it inside of the message, so that one with XX around it is among them. Ends with 1 when others
survived. The name of each is what MUTANTS="..." takes to try it again.
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
NAME = re.compile(r"(?P<function>.+)__mutmut_\d+$")
OF_A_DETAIL_ALONE = {"_bad", "malformed", "_malformed", "TypeError", "ValueError", "IndexError"}
COLUMNS = ("changes", "killed", "survived", "no test", "texts", "not run")


class Survivor(NamedTuple):
    """A mutant that no test noticed."""

    name: str
    change: tuple[str, ...]  # lines behind "-" and "+"
    is_tested: bool
    is_text: bool  # the same reason is given, with other words


class _Wordless(ast.NodeTransformer):
    """Takes what errors say beside their reasons out of a function."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Of an error, leave its kind and its reason."""
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in OF_A_DETAIL_ALONE:
            node.args, node.keywords = [], []
        elif name.endswith("Error"):
            node.args, node.keywords = [_bare(argument) for argument in node.args[:1]], []
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """Of an assertion, leave what is asserted."""
        node.msg = None
        return node


def _bare(reason: ast.expr) -> ast.expr:
    if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
        reason.value = reason.value.removeprefix("XX").removesuffix("XX")
    return reason


def survivors(meta: Path) -> Iterator[Survivor]:
    """Of one file that was mutated."""
    codes = json.loads(meta.read_text())["exit_code_by_key"]
    wanted = {key: code for key, code in codes.items() if code in {SURVIVED, NO_TESTS}}
    source = meta.with_suffix("").read_text() if wanted else ""
    functions = {
        node.name: node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name
    }
    for key, code in wanted.items():
        name = key.rpartition(".")[2]
        match = NAME.match(name)
        assert match is not None
        before, after = functions[f"{match['function']}__mutmut_orig"], functions[name]
        lines = difflib.unified_diff(_lines(source, before), _lines(source, after), n=0, lineterm="")
        change = tuple(line for line in lines if line[0] in "+-" and line[:3] not in {"+++", "---"})
        yield Survivor(key, change, code == SURVIVED, _without_words(before) == _without_words(after))


def _lines(source: str, function: ast.AST) -> list[str]:
    return (ast.get_source_segment(source, function) or "").splitlines()[1:]


def _without_words(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return "\n".join(ast.dump(_Wordless().visit(statement)) for statement in function.body)


def _counted(meta: Path, found: list[Survivor]) -> Counter[str]:
    codes = json.loads(meta.read_text())["exit_code_by_key"].values()
    words = {None: "not run", SURVIVED: "survived", NO_TESTS: "no test"}
    counts = Counter(words.get(code, "killed") for code in codes)
    counts.update({"changes": len(codes), "texts": sum(survivor.is_text for survivor in found)})
    return counts


def main(folder: Path) -> int:
    """Print the survivors; the exit code."""
    counts: dict[str, Counter[str]] = {}
    shown = 0
    for meta in sorted(folder.rglob("*.py.meta")):
        found = list(survivors(meta))
        counts.setdefault(meta.parent.name, Counter()).update(_counted(meta, found))
        for survivor in found:
            if not survivor.is_text:
                shown += 1
                print(f"{survivor.name}{'' if survivor.is_tested else ': no test runs it'}")
                for line in survivor.change:
                    print(f"    {line[0]} {line[1:].strip()}")
    print(f"{'':12}" + "".join(f"{column:>10}" for column in COLUMNS))
    for package, numbers in counts.items():
        print(f"{package:12}" + "".join(f"{numbers[column]:10}" for column in COLUMNS))
    print(
        f"Of those that survived or met no test, texts changed only what an error says; the {shown} others are above."
    )
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
