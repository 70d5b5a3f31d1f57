"""Answers that do not end: a watcher that leaves gives its place back."""

from pathlib import Path

import pytest

from tccp.control import server
from tccp.control.client import ControlClient
from tccp.control.server import CONNECTIONS_MAX
from tccp.errors import HostError
from tccp.protocol import control as c
from tests.cli.control_daemon import control_daemon

EVENT = c.Event(1, 1_795_000_000_000, "start", "", {})


def test_watchers_that_left_while_nothing_happened_do_not_keep_others_out(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, c.CoordinatorRequest, {c.WatchEvents: [EVENT], c.ExportNodes: c.PerimeterRecord(())}):
        for _ in range(CONNECTIONS_MAX + 1):
            with ControlClient(path) as watcher:
                assert next(watcher.stream(c.WatchEvents(0, follow=True), c.Event)) == EVENT

        with ControlClient(path) as another:
            assert another.ask(c.ExportNodes(), c.PerimeterRecord) == c.PerimeterRecord(())


def test_a_bug_in_an_answer_is_told_and_ends_nothing(tmp_path: Path, bugs: list[str]) -> None:
    path = tmp_path / "control.sock"
    with (
        control_daemon(path, c.CoordinatorRequest, {c.ExportNodes: c.PerimeterRecord(())}),
        ControlClient(path) as operator,
    ):
        with pytest.raises(HostError, match="bug"):
            operator.ask(c.ListNodes(), c.Nodes)  # for which there is no answer

        assert operator.ask(c.ExportNodes(), c.PerimeterRecord) == c.PerimeterRecord(())
    assert "KeyError" in bugs.pop()


def test_an_answer_that_is_too_long_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONTROL_FRAME_BYTES_MAX", 1_000)
    path = tmp_path / "control.sock"
    answers = {c.GetTrust: c.TrustFile(bytes(1_000)), c.ExportNodes: c.PerimeterRecord(())}
    with control_daemon(path, c.CoordinatorRequest, answers), ControlClient(path) as operator:
        with pytest.raises(HostError, match="answer_too_long"):
            operator.ask(c.GetTrust(), c.TrustFile)

        assert operator.ask(c.ExportNodes(), c.PerimeterRecord) == c.PerimeterRecord(())


def test_a_stream_that_fails_says_why(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with (
        control_daemon(path, c.CoordinatorRequest, {c.WatchEvents: [EVENT, HostError("disk_full")]}),
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
