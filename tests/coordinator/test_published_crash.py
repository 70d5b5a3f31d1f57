"""kill -9 at any moment: what was acknowledged is in the log, and the next start tells the rest, once."""

import random
import re
import subprocess
import sys
from pathlib import Path

ROUNDS = 10


def untold(folder: Path, *options: str) -> int:
    """In how many rounds an event was acknowledged that was not in the log when the coordinator was killed."""
    seed = str(random.randrange(1 << 32))
    program = [sys.executable, "-m", "tests.coordinator.publishing_crashing", folder, str(ROUNDS), seed, *options]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{program}: {done.stderr}"
    found = re.match(rf"{ROUNDS} rounds, (\d+) of them", done.stdout)
    assert found
    return int(found[1])


def test_kill_9_at_any_moment_leaves_nothing_acknowledged_and_untold(tmp_path: Path) -> None:
    assert untold(tmp_path) == 0


def test_control_who_does_not_wait_for_the_log_is_found_lying(tmp_path: Path) -> None:
    assert untold(tmp_path, "early") > 0
