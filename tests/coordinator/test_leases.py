"""Leases end: by time, by revocation, whatever clocks and nodes do."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tccp.coordinator.clock import SteadyClock
from tccp.errors import RefusedError
from tccp.node.registration import HeldLease, NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import RenewalChallenge, Renewed
from tccp.transport.connection import RefusalError
from tccp.transport.errors import PeerGoneError
from tests.support.live_coordinator import DEADLINE_S, ZERO, HonestNode, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm

HOUR_S = 3600


@pytest.fixture
async def impatient(coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """A coordinator whose leases hold for two seconds; alpha is enrolled."""
    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=2) as running:
        await running.add_policy({0: ZERO})
        await running.enrol("alpha", host)
        yield running


# ---- lapse ----


async def test_the_lease_of_a_node_that_falls_silent_lapses_in_the_record(
    impatient: LiveCoordinator, host: NodeTpm
) -> None:
    node = HonestNode(impatient, "alpha", host)
    await node.register()

    await impatient.until("end")
    assert await impatient.last_end("alpha") == "lapsed"
    assert await impatient.leases() == {}


async def test_the_lease_of_a_node_that_vanished_lapses_in_the_record(
    impatient: LiveCoordinator, host: NodeTpm
) -> None:
    node = HonestNode(impatient, "alpha", host)
    await node.register()
    node.leave()

    await impatient.until("end")
    assert await impatient.last_end("alpha") == "lapsed"


async def test_an_answer_that_comes_after_the_lease_renews_nothing(impatient: LiveCoordinator, host: NodeTpm) -> None:
    node = HonestNode(impatient, "alpha", host)
    await node.register()
    answer = await node.answer_renewal(await node.receive(RenewalChallenge))
    await impatient.until("end")

    with contextlib.suppress(PeerGoneError):
        await node.connection.send(answer)
    with pytest.raises((PeerGoneError, RefusalError)):
        await node.receive(Renewed)
    assert await impatient.leases() == {}
    assert await HonestNode(impatient, "alpha", host).is_admitted()


async def test_a_node_that_answers_is_kept_beyond_its_first_lease(impatient: LiveCoordinator, host: NodeTpm) -> None:
    node = HonestNode(impatient, "alpha", host)
    await node.register()
    first = (await impatient.leases())["alpha"]
    for _ in range(3):
        await node.connection.send(await node.answer_renewal(await node.receive(RenewalChallenge)))
        await node.receive(Renewed)

    assert impatient.services.clock.now_ms() > first.expires_ms
    assert (await impatient.leases())["alpha"].lease_id == first.lease_id


async def test_the_lease_of_a_node_ends_before_the_coordinators(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    admitted = await alpha.register()
    held = HeldLease()
    held.extend(admitted.lease_id, admitted.certificate, asked_at=asked_at, lease_s=admitted.lease_s)

    left_at_the_coordinator_ms = (await coordinator.leases())["alpha"].expires_ms - coordinator.services.clock.now_ms()
    assert held.left_s * 1000 <= left_at_the_coordinator_ms + 1


# ---- revocation ----


async def test_a_revoked_node_is_told_and_stays_out(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()
    info = await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)
    assert (info.state, info.revoke_reason) == ("revoked", "sold")

    with pytest.raises(RefusalError, match="revoked"):
        await alpha.receive(RenewalChallenge)
    assert await coordinator.last_end("alpha") == "revoked"
    assert await HonestNode(coordinator, "alpha", alpha.host).is_refused() == "revoked"
    with pytest.raises(RefusedError, match="node_revoked"):
        await coordinator.ask(c.RevokeNode(name="alpha", reason="again"), c.NodeInfo)


async def test_a_revoked_node_is_not_in_an_exported_record(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await coordinator.ask(c.RevokeNode(name="alpha", reason=""), c.NodeInfo)

    assert (await coordinator.ask(c.ExportNodes(), c.PerimeterRecord)).nodes == ()


async def test_a_revoked_node_stays_out_after_a_restart(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm) as before:
        await before.add_policy({0: ZERO})
        await before.enrol("alpha", host)
        await before.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)
    async with live_coordinator(tmp_path, coordinator_tpm) as after:
        assert await HonestNode(after, "alpha", host).is_refused() == "revoked"


# ---- clocks ----


async def test_a_clock_that_is_set_forward_ends_no_lease(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.register()
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + HOUR_S)

    await alpha.renew()
    assert "alpha" in await coordinator.leases()


async def test_a_clock_that_is_set_back_keeps_no_lease(
    impatient: LiveCoordinator, host: NodeTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await HonestNode(impatient, "alpha", host).register()
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() - HOUR_S)

    await impatient.until("end")
    assert await impatient.last_end("alpha") == "lapsed"


@pytest.mark.parametrize("renewed", [False, True], ids=["admitted", "renewed"])
async def test_a_restart_with_the_clock_set_back_extends_no_lease(
    renewed: bool, coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time = time.time
    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=60) as before:
        await before.add_policy({0: ZERO})
        await before.enrol("alpha", host)
        # The host's clock is right now; the log's last entry is old, renewals leave none.
        node = HonestNode(before, "alpha", host)
        await node.register()
        if renewed:
            before.services.clock._offset_ms += 30_000
            await node.renew()
        lease = (await before.leases())["alpha"]
    monkeypatch.setattr(time, "time", lambda: true_time() - HOUR_S)
    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=60) as after:
        assert lease.expires_ms - after.services.clock.now_ms() <= 60_000


async def test_without_the_records_time_the_lease_would_be_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    true_time = time.time
    newest_ms = int(true_time() * 1000)
    monkeypatch.setattr(time, "time", lambda: true_time() - HOUR_S)

    assert SteadyClock(not_before_ms=0).now_ms() < newest_ms - 1000 * HOUR_S // 2
    assert SteadyClock(not_before_ms=newest_ms).now_ms() >= newest_ms


async def test_a_lease_that_lapsed_while_no_coordinator_ran_is_ended_by_the_next_one(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm) as before:
        await before.add_policy({0: ZERO})
        await before.enrol("alpha", host)
        await HonestNode(before, "alpha", host).register()
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + HOUR_S)
    async with live_coordinator(tmp_path, coordinator_tpm) as after:
        with trio.fail_after(DEADLINE_S):
            await after.until("end")
        assert await after.last_end("alpha") == "lapsed"


async def test_a_lease_survives_a_restart_and_the_node_takes_a_new_one(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm) as before:
        await before.add_policy({0: ZERO})
        await before.enrol("alpha", host)
        admitted = await HonestNode(before, "alpha", host).register()
    async with live_coordinator(tmp_path, coordinator_tpm) as after:
        assert (await after.leases())["alpha"].lease_id == admitted.lease_id
        assert await HonestNode(after, "alpha", host).is_admitted()
        assert await after.last_end("alpha") == "replaced"
        assert len(await after.leases()) == 1
        await after.log()
