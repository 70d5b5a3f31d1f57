"""The demo that users see first."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120


def processes_with(word: str) -> list[str]:
    """The command lines that contain *word*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended
            if word in line:
                found.append(line)
    return found


def test_the_demo_tells_its_story_and_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="tccp-demo-") as folder:
        finished = subprocess.run(
            [sys.executable, ROOT / "tools" / "demo.py"],
            env={**os.environ, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        said = finished.stdout.splitlines()
        assert said[-1].startswith("done: a VM launched on an attested host and verified; the tampered host got no key")
        for told in ("| counter 2", "web.receipt: accepted", "PCR 4 is"):
            assert any(told in line for line in said), told
        # Two launches are refused: the tampered host's, and the one with a ticket that was used.
        refusals = [line.split(":")[2].strip() for line in finished.stderr.splitlines() if "tccp: error" in line]
        assert refusals == ["pcr_not_in_policy", "ticket_used"]
        assert list(Path(folder).iterdir()) == []
        assert processes_with(folder) == []
