"""What the report of the mutation tests shows, and what it only counts."""

import json
import subprocess
import sys
from pathlib import Path

REPORT = Path(__file__).parents[2] / "tools" / "mutants" / "report.py"
SOURCE = """
def x_check__mutmut_orig(size):
    assert size, "no size"
    if size > 8:
        raise LaunchError("too_large", f"{size} bytes", hint="send less")

def x_check__mutmut_1(size):
    assert size, "no size"
    if size >= 8:
        raise LaunchError("too_large", f"{size} bytes", hint="send less")

def x_check__mutmut_2(size):
    assert size, None
    if size > 8:
        raise LaunchError("XXtoo_largeXX", None, )

def x_check__mutmut_3(size):
    assert size, "no size"
    if size > 8:
        raise LaunchError("TOO_LARGE", f"{size} bytes", hint="send less")

def x_check__mutmut_4(size):
    assert size, "no size"
    if size > None:
        raise LaunchError("too_large", f"{size} bytes", hint="send less")
"""


def report(folder: Path, codes: dict[int, int | None]) -> tuple[int, list[str]]:
    """Its exit code and its lines, where mutant *number* ended with this exit code of pytest."""
    package = folder / "protocol"
    package.mkdir()
    (package / "sizes.py").write_text(SOURCE)
    keys = {f"tccp.protocol.sizes.x_check__mutmut_{number}": code for number, code in codes.items()}
    (package / "sizes.py.meta").write_text(json.dumps({"exit_code_by_key": keys}))
    done = subprocess.run([sys.executable, REPORT, folder], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_survivor_is_shown_by_the_name_that_tries_it_again(tmp_path: Path) -> None:
    code, lines = report(tmp_path, {1: 0, 2: 0, 3: 33, 4: 1})

    assert code == 1
    assert lines[:6] == [
        "tccp.protocol.sizes.x_check__mutmut_1",
        "    - if size > 8:",
        "    + if size >= 8:",
        "tccp.protocol.sizes.x_check__mutmut_3: no test runs it",
        '    - raise LaunchError("too_large", f"{size} bytes", hint="send less")',
        '    + raise LaunchError("TOO_LARGE", f"{size} bytes", hint="send less")',
    ]
    assert lines[7].split() == ["protocol", "4", "1", "2", "1", "1", "0"]


def test_other_words_are_counted_only(tmp_path: Path) -> None:
    code, lines = report(tmp_path, {1: 1, 2: 0, 3: 3, 4: None})

    assert code == 0
    assert lines[1].split() == ["protocol", "4", "2", "1", "0", "1", "1"]
