import os
import time
from pathlib import Path

import pytest

from tccp.errors import HostError
from tccp.systemd import notify, reloading
from tests.systemd.conftest import Manager


def test_all_that_is_said_in_one_call_arrives_in_one_datagram(manager: Manager) -> None:
    notify("READY=1", "STATUS=12 nodes, größer")

    assert manager.receive() == ["READY=1", "STATUS=12 nodes, größer"]


def test_nothing_is_said_where_there_is_no_systemd() -> None:
    notify("READY=1")


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"tccp-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    manager = Manager("\0" + name)

    with manager.channel:
        notify("WATCHDOG=1")

        assert manager.receive() == ["WATCHDOG=1"]


@pytest.mark.parametrize("text", ["ERRNO=2\nMAINPID=1", "ERRNO=\0", "READY", "=1", "", "ready=1"])
def test_no_second_assignment_can_be_smuggled_in(manager: Manager, text: str) -> None:
    with pytest.raises(ValueError, match="NAME=value on one line"):
        notify(text)

    assert manager.heard() == []


@pytest.mark.parametrize("text", ["from a peer\nMAINPID=1", "\0", "\x1b[2J", "\udcff"])
def test_a_status_with_foreign_text_is_said_on_one_line(manager: Manager, text: str) -> None:
    notify(f"STATUS=refused: {text}")

    assert manager.receive() == ["STATUS=refused: " + "".join(c if c.isprintable() else "?" for c in text)]


def test_a_long_status_is_cut(manager: Manager) -> None:
    notify("STATUS=" + "x" * 1_000_000)

    assert len(manager.receive()[0]) == 512


def test_a_manager_that_is_gone_is_a_fault_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))

    with pytest.raises(HostError, match="notify_failed"):
        notify("READY=1")


@pytest.mark.parametrize("address", ["vsock:2:1", "relative", "/" + "x" * 200])
def test_an_address_that_cannot_be_reached_is_a_fault_of_the_host(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    with pytest.raises(HostError, match="notify_failed"):
        notify("READY=1")


def test_a_reload_ends_with_ready_and_carries_the_monotonic_time(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    with reloading("reading coordinator.toml"):
        start = manager.receive()
    after = time.monotonic_ns() // 1000

    assert start[0] == "RELOADING=1"
    assert before <= int(start[1].removeprefix("MONOTONIC_USEC=")) <= after
    assert start[2] == "STATUS=reading coordinator.toml"
    assert manager.heard() == [["READY=1"]]


def test_a_reload_that_fails_ends_with_ready_too(manager: Manager) -> None:
    with pytest.raises(RuntimeError), reloading():
        raise RuntimeError("the new configuration is wrong")

    assert [message[0] for message in manager.heard()] == ["RELOADING=1", "READY=1"]


def test_a_notification_leaves_no_descriptor_behind(manager: Manager) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the descriptors, not the folder
    for _ in range(10):
        notify("WATCHDOG=1")

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_manager_that_does_not_read_stops_us_for_a_bounded_time(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.systemd.NOTIFY_TIMEOUT_S", 0.01)

    def notify_until_the_queue_is_full() -> None:
        for _ in range(100_000):
            notify("WATCHDOG=1")

    with pytest.raises(HostError, match="timed out"):
        notify_until_the_queue_is_full()
