"""Keylime 7.14.3 as the peer of benchmarks, in a virtual environment of its own that is made once.

Its requirements.lock is made on purpose, from requirements.in, as the project's own is:

    uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \\
        --output-file bench/keylime_peer/requirements.lock bench/keylime_peer/requirements.in
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, NamedTuple, Self

HERE = Path(__file__).parent
ROUNDS = 15


def environment(folder: Path) -> Path:
    """The interpreter of Keylime's environment below *folder*; made when it is missing or of another lock."""
    lock = (HERE / "requirements.lock").read_text()
    home, made_of = folder / "keylime", folder / "keylime" / "made-of.lock"
    python = home / "bin" / "python"
    if not made_of.exists() or made_of.read_text() != lock:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
        ]
        subprocess.run([*pip, "-r", HERE / "requirements.lock"], check=True)
        made_of.write_text(lock)
    return python


class Keylime:
    """A script of this folder, which works one round whenever it is asked: so that its rounds and ours take turns, on a
    machine that is not as fast in one second as in the next.

    Args:
        folder: Where its environment is, or is to be made.
        given: What the script gets, as JSON.
    """

    def __init__(self, folder: Path, script: str, given: Any) -> None:
        self._script = script
        self._process = subprocess.Popen(
            [environment(folder), HERE / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def round(self, what: str) -> float:
        """How long the script took for one unit of *what*, in seconds of processor time.

        Raises:
            RuntimeError: It has ended; why is on standard error.
        """
        self._say(what)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._script} ended with {self._process.wait()}")
        return float(line)

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()


class Turns(NamedTuple):
    """Medians of seconds of processor time for one unit, and of how many times as long Keylime took as we in rounds
    next to each other; None without Keylime."""

    ours_s: float
    theirs_s: float | None
    ratio: float | None


def by_turns(benchmark: Any, work: Callable[[], int], keylime: Keylime | None, what: str) -> Turns:
    """Rounds of *work* by pytest-benchmark, each behind one of Keylime's; *work* returns how many units it did."""
    theirs_s: list[float] = []

    def before() -> None:
        if keylime is not None:
            theirs_s.append(keylime.round(what))

    units = benchmark.pedantic(work, setup=before, rounds=ROUNDS, warmup_rounds=1)
    ours_s = [seconds / units for seconds in benchmark.stats.stats.data]
    if keylime is None:
        return Turns(median(ours_s), None, None)
    del theirs_s[0]  # the round that warmed up
    ratios = [theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)]
    return Turns(median(ours_s), median(theirs_s), median(ratios))
