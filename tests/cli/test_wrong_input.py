"""Every command with files that are not what they should be, and without a daemon: an error of its kind, never a trace.

The command lines are made from the parser, so that a new command is among them by itself.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tccp.cli import exit_codes
from tccp.cli.arguments import Parser
from tccp.cli.main import build_parser

from .running import Ended, tccp, tccp_in_process
from .test_main import leaves

FORESEEN = {exit_codes.OK, exit_codes.REFUSED, exit_codes.USAGE, exit_codes.HOST, exit_codes.CONFIG}
# A command that begins something in /etc and /var, or looks at the whole machine, is none to be tried on anything.
NOT_HERE = {"tccp coordinator init", "tccp witness init", "tccp doctor"}
# These close the process that they run in against its own user; a process for each takes its time.
ON_ITS_OWN, WITH = "tccp disk", {"missing", "noise"}
FILES = {"FILE", "DIR", "PATH", "URL|DIR", "NAME=FILE", "ENTRY|RECEIPT"}
VALUES = {
    "HOST:PORT": "127.0.0.1:1",
    "NAME=VALUE": "site=north",
    "INDEX=HEX": f"4={'00' * 32}",
    "NAME[:VERSION]": "tvmm:1",
    "VM": "5d4c",
    "NODE": "rack1-07",
    "NAME": "rack1-07",
    "POLICY": "tvmm",
    "SIZE": "4M",
    "TEXT": "sold",
    "N": "1",
}


def long(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 << 20)


BAD: dict[str, Callable[[Path], object]] = {
    "missing": lambda _path: None,
    "folder": Path.mkdir,
    "empty": Path.touch,
    "noise": lambda path: path.write_bytes(random.Random(8).randbytes(5000)),
    "text": lambda path: path.write_text("[not what]\nyou = 'expected'\n"),
    "long": long,
}


def command_line(command: Parser, path: Path) -> list[str]:
    """The command with *path* for every file that it takes, and something legal for what it needs beside."""
    exclusive = [group._group_actions for group in command._mutually_exclusive_groups]
    words = command.prog.split()[1:]
    for action in command._actions:
        if action.dest in {"help", "json"} or any(action in group[1:] for group in exclusive):
            continue
        takes_file = action.metavar in FILES or action.type is Path
        is_needed = action.required or any(action in group for group in exclusive)
        if not (takes_file or is_needed):
            continue
        file = f"ann={path}" if action.metavar == "NAME=FILE" else str(path)
        words += [*action.option_strings[:1], file if takes_file else value_of(action)]
    return [*words, "--json"]


def value_of(action: argparse.Action) -> str:
    if action.choices:
        return str(next(iter(action.choices)))
    return VALUES[str(action.metavar or action.dest)]


def problem_of(ended: Ended) -> str:
    """What is wrong with how a command has ended."""
    if ended.code not in FORESEEN or "Traceback" in ended.err:
        return f"{ended.code} {ended.err[-1500:]}{ended.out[-300:]}"
    if ended.code == exit_codes.OK:
        return ""
    try:
        document = json.loads(ended.out)
    except ValueError:
        return f"{ended.code}, and no JSON document: {ended.out[:300]!r} {ended.err[:300]!r}"
    if not {"error", "verdict"} & set(document):
        return f"{ended.code}, and no reason: {document}"
    return "None" if ": None" in document.get("detail", "") else ""


@pytest.mark.parametrize("kind", BAD)
def test_no_command_stumbles_over_a_file(
    kind: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCCP_TCTI", f"swtpm:path={tmp_path}/no-tpm")
    tried, problems = 0, []
    for number, command in enumerate(leaves(build_parser())):
        if command.prog in NOT_HERE or (command.prog.startswith(ON_ITS_OWN) and kind not in WITH):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "x"
        BAD[kind](path)
        words = command_line(command, path)
        if kind == "empty" and "--config" in words:  # which is a good one, of this very machine
            continue
        ended = tccp(*words) if command.prog.startswith(ON_ITS_OWN) else tccp_in_process(capfdbinary, *words)
        tried += 1
        if problem := problem_of(ended):
            problems.append(f"tccp {' '.join(words)}: {problem}")

    assert not problems, "\n".join(problems)
    assert tried > 50
