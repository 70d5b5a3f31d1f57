"""A disk that is full, or fails: nothing is acknowledged that is not there, and the store goes on once it can."""

import os
import subprocess
import sys
from pathlib import Path

MOUNT_AND_RUN = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" -m tests.store.filling full "$1"'


def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(tmp_path: Path) -> None:
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]

    done = subprocess.run(
        [*namespace, "sh", "-c", MOUNT_AND_RUN, "sh", tmp_path, sys.executable],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" acknowledged\n")


def test_a_failing_write_fails_its_group_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.filling", "limit", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" acknowledged\n")
