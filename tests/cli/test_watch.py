"""``tccp watch`` and ``tccp coordinator watch``: events as they come, and how watching ends."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tccp.protocol import control as c
from tccp.protocol.control_roles import CoordinatorRequest

from .control_daemon import ControlDaemon, control_daemon
from .running import PATIENCE_S, TCCP, tccp

EVENTS: list[object] = [
    c.Event(1, 1_795_000_000_000, "enrol", "rack1-07", {"by": "bad\x1b[2J\nforged"}),
    c.Event(2, 1_795_000_000_001, "start", "", {}),
]
ANSWERS: dict[type, object] = {c.WatchEvents: EVENTS}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ControlDaemon]:
    with control_daemon(tmp_path / "control.sock", CoordinatorRequest, ANSWERS) as running:  # type: ignore[arg-type]
        yield running


def test_only_what_is_wanted_is_shown_and_the_short_name_does(daemon: ControlDaemon) -> None:
    ended = tccp("watch", "--no-follow", "--kind", "start", "--socket", daemon.path)

    assert [line.split()[4] for line in ended.out.splitlines()] == ["start"]


def test_ctrl_c_ends_watching_without_a_traceback(daemon: ControlDaemon) -> None:
    with subprocess.Popen(
        [TCCP, "coordinator", "watch", "--socket", str(daemon.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        shown = [child.stdout.readline() for _ in EVENTS]
        child.send_signal(signal.SIGINT)
        rest, complaint = child.communicate(timeout=PATIENCE_S)

    assert b"enrol" in shown[0]
    assert b"\x1b" not in shown[0]
    assert (child.returncode, rest, complaint) == (130, b"", b"tccp: interrupted\n")


def test_a_coordinator_that_ends_while_watched_is_told(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, CoordinatorRequest, ANSWERS):  # type: ignore[arg-type]
        child = subprocess.Popen(
            [TCCP, "coordinator", "watch", "--socket", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        assert b"enrol" in child.stdout.readline()
    _, complaint = child.communicate(timeout=PATIENCE_S)

    assert child.returncode == 3
    assert complaint.startswith(b"tccp: error: daemon_gone")


def test_a_reader_of_the_log_that_goes_away_ends_watching(daemon: ControlDaemon) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [TCCP, "coordinator", "watch", "--socket", str(daemon.path)],
            stdout=write_end,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        os.close(write_end)

    assert (done.returncode, done.stderr) == (141, b"")
