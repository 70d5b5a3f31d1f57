import os
import subprocess
import sys
import tempfile
from pathlib import Path

DEMO = Path(__file__).parents[1] / "tools" / "demo.py"


def test_the_demo_tells_its_story_and_leaves_nothing_behind() -> None:
    """What `make demo` runs; in a folder of its own, with a short name for the Unix sockets in it."""
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run([sys.executable, DEMO], env=environment, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "pcr_not_in_policy: PCR 4 is" in done.stdout
        assert done.stdout.splitlines()[-1].startswith("done:")
        assert list(Path(folder).iterdir()) == []
