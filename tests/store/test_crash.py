"""What was acknowledged is there after the process was killed."""

import random
import subprocess
import sys
from pathlib import Path

from tccp.store import EventDraft, open_store

ROUNDS = 40
PAGE_FRAME = 4096 + 24  # a page in the write-ahead log and its header


def crash_again_and_again(database: Path, *options: str) -> subprocess.CompletedProcess[str]:
    seed = random.randrange(1 << 32)
    return subprocess.run(
        [sys.executable, "-m", "tests.store.crashing", database, str(ROUNDS), str(seed), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(database: Path) -> None:
    done = crash_again_and_again(database)

    assert done.returncode == 0, f"{done.args}: {done.stderr}"
    assert done.stdout.startswith(f"{ROUNDS} rounds, ")


def test_control_kill_9_loses_what_was_acknowledged_before_it_was_committed(database: Path) -> None:
    done = crash_again_and_again(database, "early")

    assert done.returncode == 1
    assert "in check" in done.stderr


async def test_a_log_cut_anywhere_holds_the_events_up_to_there(database: Path, tmp_path: Path) -> None:
    # A power loss may leave any part of what was not synced yet.
    copy = tmp_path / "copy.db"
    async with open_store(database) as store:
        for number in range(40):
            await store.append_event(EventDraft(1, "refuse", None, number.to_bytes(2, "big")))
        main_file, log = database.read_bytes(), Path(f"{database}-wal").read_bytes()
    held: set[int] = set()

    for _ in range(60):
        cut = random.randrange(len(log) + 1)
        tail = random.choice([b"", bytes(PAGE_FRAME), random.randbytes(PAGE_FRAME)])
        copy.write_bytes(main_file)
        Path(f"{copy}-wal").write_bytes(log[:cut] + tail)
        async with open_store(copy) as store:
            bodies = [event.body for event in await store.events()]
            assert bodies == [number.to_bytes(2, "big") for number in range(len(bodies))], cut
            held.add(len(bodies))
            assert await store.append_event(EventDraft(1, "start")) == len(bodies) + 1
        for left in tmp_path.glob("copy.db*"):
            left.unlink()

    assert len(held) > 5
