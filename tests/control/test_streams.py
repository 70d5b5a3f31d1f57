"""Answers that do not end: a watcher that leaves gives its place back."""

from pathlib import Path

from tccp.control.client import ControlClient
from tccp.control.server import CONNECTIONS_MAX
from tccp.errors import HostError
from tccp.protocol import control as c
from tccp.protocol.control_roles import CoordinatorRequest
from tests.cli.control_daemon import control_daemon

EVENT = c.Event(1, 1_795_000_000_000, "start", "", {})


def test_watchers_that_left_while_nothing_happened_do_not_keep_others_out(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, CoordinatorRequest, {c.WatchEvents: [EVENT], c.ExportNodes: c.PerimeterRecord(())}):
        for _ in range(CONNECTIONS_MAX + 1):
            with ControlClient(path) as watcher:
                assert next(watcher.stream(c.WatchEvents(0, follow=True), c.Event)) == EVENT

        with ControlClient(path) as another:
            assert another.ask(c.ExportNodes(), c.PerimeterRecord) == c.PerimeterRecord(())


def test_a_stream_that_fails_says_why(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with (
        control_daemon(path, CoordinatorRequest, {c.WatchEvents: [EVENT, HostError("disk_full")]}),
        ControlClient(path) as watcher,
    ):
        received = []
        reason = ""
        try:
            for event in watcher.stream(c.WatchEvents(0, follow=False), c.Event):
                received.append(event)  # noqa: PERF402 - what came before the failure counts
        except HostError as problem:
            reason = problem.reason

    assert (received, reason) == ([EVENT], "disk_full")
