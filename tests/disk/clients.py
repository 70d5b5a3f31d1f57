"""Programs that look at disks and images, for tests."""

import subprocess
from pathlib import Path


def run(*command: str | Path) -> str:
    """What a program said; it must not fail."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
