"""The demo that users see first: it tells what the README says, goes on for whoever wants to look, and ends cleanly."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.test_docs import README

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tools" / "demo.py"
DEADLINE_S = 240
AFTER = ("moved.receipt: accepted", "web.destroyed: accepted")
KEPT = "== Everything is running. "


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


@contextmanager
def demo(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The demo in a process group of its own, as a shell starts it; what it complains of goes into a file."""
    (folder / "d").mkdir()
    with (
        (folder / "complaints").open("w") as complaints,
        subprocess.Popen(
            [sys.executable, DEMO, *options],
            env={**os.environ, "TMPDIR": str(folder / "d")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            process_group=0,
        ) as running,
    ):
        patience = threading.Timer(DEADLINE_S, running.kill)
        patience.start()
        try:
            yield running
        finally:
            patience.cancel()
            running.kill()


def told_until(running: "subprocess.Popen[str]", beginning: str) -> list[str]:
    """What it says, up to a line that begins so, or to its end."""
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line.rstrip("\n"))
        if line.startswith(beginning):
            break
    return said


def interrupt(running: "subprocess.Popen[str]") -> list[str]:
    """Ctrl-C: the terminal tells every process of the group. What it says then."""
    os.killpg(running.pid, signal.SIGINT)
    return told_until(running, "there is no such line")


def test_the_demo_tells_its_story_goes_on_until_ctrl_c_and_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        folder = Path(name)
        with demo(folder, "--keep") as running:
            said = told_until(running, KEPT)
            assert said[-1].startswith(KEPT), (folder / "complaints").read_text()
            tries = told_until(running, "\n")[:-1]
            typed = subprocess.run(
                ["bash", "-euxc", "\n".join(tries)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
            )
            said += interrupt(running)
            assert running.wait() == 0
        complaints = (folder / "complaints").read_text()
        assert said[-1].startswith("done: a VM launched on an attested host and verified; the tampered host got no key")
        for told in ("web.receipt: accepted", "PCR 4 is", *AFTER):
            assert any(told in line for line in said), told
        counted = [int(line.removeprefix("| counter ")) for line in said if line.startswith("| counter ")]
        assert counted[0] == 1
        assert counted[-1] >= 7, "it goes on where it was"
        # An older state is refused, and two launches: the tampered host's, and the one with a ticket that was used.
        refusals = [line.split(":")[2].strip() for line in complaints.splitlines() if "tccp: error" in line]
        assert refusals == ["state_old", "pcr_not_in_policy", "ticket_used"]
        assert typed.returncode == 0, typed.stdout + typed.stderr
        assert len(tries) > 10
        for told in ("alpha.receipt: proved", "next.receipt: accepted", "severity=routine"):
            assert told in typed.stdout
        left_out = [line for line in excerpt() if not shown(line, [*said, *complaints.splitlines()])]
        assert not left_out, "the README shows what the demo does not say"
        assert list((folder / "d").iterdir()) == []
        assert processes_with(name) == []


def test_a_demo_that_is_interrupted_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        folder = Path(name)
        with demo(folder) as running:
            told_until(running, "$ tccp coordinator policy add")  # the coordinator runs
            said = interrupt(running)
            assert running.wait() == 130

        assert said[-1] == "interrupted: everything was stopped, nothing left behind"
        assert list((folder / "d").iterdir()) == []
        assert processes_with(name) == []


def test_make_knows_how_to_leave_it_running() -> None:
    for variables, options in (([], ""), (["KEEP=1"], " --keep")):
        told = subprocess.run(
            ["make", "--dry-run", "--no-print-directory", "demo", *variables],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.rstrip().endswith(f"python tools/demo.py{options}")


def excerpt() -> list[str]:
    """The lines of what the demo says, as the README shows them."""
    (block,) = re.findall(r"^What the demo shows.*?\n```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip(" .")]
    assert len(lines) > 20
    return lines


def shown(line: str, said: list[str]) -> bool:
    """Whether somebody said that, with other ids, figures and widths; dots stand for more."""
    parts = [re.escape(part.strip()) for part in plain(line).split("...") if part.strip()]
    return any(re.search(".*".join(parts), plain(each)) for each in said)


def plain(line: str) -> str:
    """A line without what is another each time."""
    line = re.sub(r"\b[0-9a-f]{8,}", "ID", line)
    return " ".join(re.sub(r"\d[\d.,]*", "N", line).split())
