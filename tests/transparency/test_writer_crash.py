"""A crash at any moment leaves a log that goes on where it was acknowledged: nothing lost, nothing doubled."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tccp.errors import StoreError
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.writer import LogWriter
from tests.transparency.crashing import EarlyDirectory, check
from tests.transparency.support import entries_of, naive_root, signer

ROUNDS = 12


def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.transparency.crashing",
            tmp_path / "log",
            str(ROUNDS),
            str(random.randrange(1 << 32)),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, f"{done.args}: {done.stderr}"
    assert done.stdout.startswith(f"{ROUNDS} rounds, ")


class Crash(BaseException):
    """The power went off."""


class Power:
    """Counts what is done to the disk, and goes off before a certain step.

    That each step is on the disk before the next one that needs it is a test of its own.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.done: list[str] = []
        self._synced: set[str] = set()
        monkeypatch.setattr(os, "fsync", self._step("fsync", os.fsync))
        monkeypatch.setattr(Path, "replace", self._step("rename", Path.replace))

    def _step(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(target: Any, *arguments: Any) -> Any:
            if self.left == 0:
                raise Crash
            if self.left is not None:
                self.left -= 1
            place = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
            self.done.append(" ".join([what, *map(str, (place, *arguments))]))
            return function(target, *arguments)

        return step


def steps_of(power: Power, log: Path, before: int, count: int) -> int:
    with LogWriter.create(log, signer()) as writer:
        writer.append(0, entries_of(before))
        power.done.clear()
        writer.append(before, entries_of(count, before))
    return len(power.done)


@pytest.mark.parametrize(("before", "count"), [(0, 1), (250, 10), (255, 1), (256, 600)])
def test_the_power_may_go_off_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, count: int
) -> None:
    with monkeypatch.context() as patch:
        power = Power(patch)
        steps = steps_of(power, tmp_path / "trial", before, count)
        for step in range(steps):
            log = tmp_path / str(step)
            power.left = None
            with LogWriter.create(log, signer()) as writer:
                head = writer.append(0, entries_of(before)).checkpoint
                power.left = step
                with pytest.raises(Crash):
                    writer.append(before, entries_of(count, before))
            power.left = None
            after = check(log, [head])
            assert after.size in {before, before + count}
            with LogWriter.open(log, signer(), signed=after) as writer:
                assert writer.append(before, entries_of(count, before)).checkpoint.size == before + count
                assert writer.append(before + count, [b"more"]).checkpoint.root == naive_root(
                    [*entries_of(before + count), b"more"]
                )


def test_control_a_checkpoint_before_its_tiles_is_a_broken_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = 0
    with monkeypatch.context() as patch:
        power = Power(patch)
        for step in range(10):
            power.left = None
            with LogWriter.create(tmp_path / str(step), signer()) as writer:
                writer.files.__class__ = EarlyDirectory
                power.left = step
                with pytest.raises(Crash):
                    writer.append(0, entries_of(300))
            power.left = None
            try:
                LogWriter.open(tmp_path / str(step), signer(), signed=None).close()
            except StoreError as problem:
                assert problem.reason in {"tile_missing", "damaged"}  # noqa: PT017
                broken += 1

    assert broken > 3


def test_every_file_and_folder_is_synced_before_the_checkpoint_speaks_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    power = Power(monkeypatch)
    with LogWriter.create(tmp_path / "logs" / "log", signer()) as writer:
        assert {f"fsync {tmp_path}", f"fsync {tmp_path / 'logs'}"} <= set(power.done)
        power.done.clear()
        writer.append(0, entries_of(600))

    synced: set[str] = set()
    unsynced_folders: set[str] = set()
    for action in power.done:
        what, place, *target = action.split(" ")
        if what == "fsync":
            synced.add(place)
            unsynced_folders.discard(place)
            continue
        assert place in synced, "renamed before it was synced"
        if target[0].endswith("/checkpoint"):
            assert not unsynced_folders
        unsynced_folders.add(str(Path(target[0]).parent))
    assert not unsynced_folders
    folders = {str(folder) for folder in (tmp_path / "logs" / "log" / "tile").rglob("*") if folder.is_dir()}
    assert folders <= synced


def test_folders_of_one_who_was_killed_are_synced_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """She may have made them and come no further; a power failure after our commit would take them and our tiles."""
    LogWriter.create(tmp_path / "log", signer()).close()
    made = [tmp_path / "log" / folder for folder in ("tile", "tile/0", "tile/0/000.p", "tile/entries")]
    for folder in made:
        folder.mkdir()
    power = Power(monkeypatch)

    with LogWriter.open(tmp_path / "log", signer(), signed=None) as writer:
        writer.append(0, entries_of(3))

    assert {f"fsync {folder}" for folder in (*made, *(folder.parent for folder in made))} <= set(power.done)


def test_what_a_crash_left_beyond_the_checkpoint_is_written_over(tmp_path: Path) -> None:
    """The feeder may even come back with other entries: those were never acknowledged."""
    log = tmp_path / "log"
    with LogWriter.create(log, signer()) as writer:
        writer.append(0, entries_of(100))
    checkpoint = (log / "checkpoint").read_bytes()
    with LogWriter.open(log, signer(), signed=None) as writer:
        writer.append(100, [b"lost"] * 400)
    (log / "checkpoint").write_bytes(checkpoint)

    with LogWriter.open(log, signer(), signed=None) as writer:
        assert writer.size == 100
        head = writer.append(100, entries_of(500, 100)).checkpoint

    assert check(log, [head]).root == naive_root(entries_of(600))


def test_files_that_were_not_in_their_place_yet_are_removed(tmp_path: Path) -> None:
    LogWriter.create(tmp_path / "log", signer()).close()
    (tmp_path / "log" / "new" / "17").write_bytes(b"half")

    LogWriter.open(tmp_path / "log", signer(), signed=None).close()

    assert not list(TileDirectory(tmp_path / "log").directory.glob("new/*"))
