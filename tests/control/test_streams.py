"""Answers that do not end: a watcher that leaves gives its place back."""

from pathlib import Path

import pytest

from tccp.control import server
from tccp.control.client import ControlClient
from tccp.control.server import CONNECTIONS_MAX
from tccp.errors import HostError
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.control_roles import CoordinatorRequest, NodeRequest
from tests.cli.control_daemon import control_daemon, dying_daemon
from tests.cli.running import tccp

EVENT = c.Event(1, 1_795_000_000_000, "start", "", {})


def test_watchers_that_left_while_nothing_happened_do_not_keep_others_out(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, CoordinatorRequest, {c.WatchEvents: [EVENT], c.ExportNodes: c.PerimeterRecord(())}):
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


def test_a_stream_that_breaks_off_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    request = c.WatchEvents(0, follow=False)
    with (
        control_daemon(tmp_path / "well", CoordinatorRequest, {c.WatchEvents: [EVENT]}),
        ControlClient(tmp_path / "well") as client,
    ):
        assert list(client.stream(request, c.Event)) == [EVENT]

    with dying_daemon(tmp_path / "dies", EVENT), ControlClient(tmp_path / "dies") as client:
        broken_off = client.stream(request, c.Event)
        assert next(broken_off) == EVENT
        with pytest.raises(HostError, match="daemon_gone"):
            next(broken_off)


def test_an_export_of_the_log_that_breaks_off_does_not_end_well(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with dying_daemon(path, EVENT):
        ended = tccp("coordinator", "watch", "--no-follow", "--json", "--socket", path)

    assert (ended.code, ended.out.count('"seq"')) == (3, 1)


def test_a_launch_that_its_daemon_did_not_survive_was_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    (tmp_path / "ticket").write_bytes(b"ticket")
    words = ("vm", "launch", tmp_path / "ticket", tmp_path / "image", "--json", "--socket", path)
    with dying_daemon(path, vm_in("asking")):
        ended = tccp(*words)
    assert (ended.code, ended.document["error"]) == (3, "daemon_gone")
    path.unlink()

    with control_daemon(path, NodeRequest, {v.LaunchVm: [vm_in("asking"), vm_in("failed")]}):
        refused = tccp(*words)
    assert (refused.code, refused.document["error"]) == (1, "not_started")


def vm_in(state: str) -> v.VmInfo:
    """A VM that has come so far."""
    return v.VmInfo(
        vm_id=bytes(16),
        state=state,
        tenant_key=bytes(32),
        ticket_sha256=bytes(32),
        epoch=0,
        vcpus=1,
        memory_mib=64,
        launched_ms=1,
        started_ms=0,
        ended_ms=0,
        reason="",
        detail="",
        hint="",
        console="",
        has_receipt=False,
        saved="",
        transfer=None,
    )
