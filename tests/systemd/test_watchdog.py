import os

import pytest
import trio
import trio.testing

from tccp.errors import HostError
from tccp.systemd import Heartbeat, keep_watchdog
from tests.systemd.conftest import Manager


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


async def test_a_healthy_daemon_pings_at_half_the_period(
    watched: None, manager: Manager, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(59):
        await keep_watchdog(healthy=lambda: True)

    assert manager.heard() == [["WATCHDOG=1"]] * 4  # at 0, 15, 30 and 45 s


async def test_an_unwell_daemon_does_not_ping_until_it_is_well_again(
    watched: None, manager: Manager, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(100):
        await keep_watchdog(healthy=lambda: not 10 < trio.current_time() < 80)

    assert len(manager.heard()) == 2  # at 0 and 90 s; systemd would have killed it at 30 s


async def test_the_pings_stop_with_the_heartbeat_of_a_part(
    watched: None, manager: Manager, autojump_clock: trio.testing.MockClock
) -> None:
    heartbeat = Heartbeat(silence_s=10)

    async def part_that_dies_after_a_minute() -> None:
        while trio.current_time() < 60:
            heartbeat.beat()
            await trio.sleep(1)

    with trio.move_on_after(200):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part_that_dies_after_a_minute)
            nursery.start_soon(lambda: keep_watchdog(healthy=heartbeat.alive))

    assert manager.heard() == [["WATCHDOG=1"]] * 5  # at 0, 15, 30, 45 and 60 s, and never again


async def test_without_a_watchdog_there_is_nothing_to_do(manager: Manager) -> None:
    await keep_watchdog(healthy=lambda: True)

    assert manager.heard() == []


async def test_a_watchdog_for_another_process_is_none_of_ours(
    watched: None, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")

    await keep_watchdog(healthy=lambda: True)

    assert manager.heard() == []


@pytest.mark.parametrize("period", ["0", "-1", "soon", "1e9", "9" * 30])
async def test_a_period_that_is_no_number_is_a_fault_of_the_host(
    watched: None, period: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", period)

    with pytest.raises(HostError, match="watchdog"):
        await keep_watchdog(healthy=lambda: True)
