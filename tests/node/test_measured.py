"""A whole node whose host has measured its boot and what it runs, and a coordinator that judges by both."""

from dataclasses import replace
from pathlib import Path

import trio

from tccp.node.ima_list import ImaList
from tests.support.ima_lists import written
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator, live_coordinator, open_host
from tests.support.live_node import LiveNode, live_node
from tests.support.measured_host import (
    BOOTED,
    DAEMON,
    EVIL,
    boot_policy,
    ima_policy,
    measure,
    measure_boot,
    put_in_force,
)
from tests.support.soft_tpm import SoftTpmPool


async def renewed(coordinator: LiveCoordinator, node: LiveNode) -> None:
    """Challenged, and renewed."""
    before = node.node.lease.renewals
    await coordinator.challenge_now("alpha")
    with trio.fail_after(DEADLINE_S):
        while node.node.lease.renewals == before:  # noqa: ASYNC110 a daemon has no event for its tests
            await trio.sleep(0.01)


async def test_a_node_shows_what_it_booted_and_what_it_runs_and_is_out_when_that_is_not_listed(
    soft_tpms: SoftTpmPool, tmp_path: Path
) -> None:
    (tmp_path / "ima").mkdir()
    log, measurements = tmp_path / "event_log", tmp_path / "ima_list"
    ima = f'[ima]\npolicies = "{tmp_path}/ima"'
    with soft_tpms.lend() as own, soft_tpms.lend() as tpm:
        async with live_coordinator(tmp_path, own, extra=ima) as coordinator, open_host(tpm) as opened:
            await put_in_force(coordinator, boot_policy(ima=ima_policy(tmp_path / "ima")))
            log.write_bytes(await measure_boot(opened.tpm))
            measurements.write_bytes(written(BOOTED))
            await measure(opened.tpm, BOOTED)
            host = replace(opened, event_log=log, ima_list=ImaList(measurements))
            await coordinator.enrol("alpha", host)
            async with live_node(coordinator, "alpha", host, tmp_path) as node:
                await renewed(coordinator, node)
                measurements.write_bytes(written([*BOOTED, DAEMON]))
                await measure(host.tpm, [DAEMON])
                await renewed(coordinator, node)
                await put_in_force(coordinator, boot_policy(version=2, ima=ima_policy(tmp_path / "ima")))
                await renewed(coordinator, node)

                measurements.write_bytes(written([*BOOTED, DAEMON, EVIL]))
                await measure(host.tpm, [EVIL])
                await coordinator.challenge_now("alpha")
                await coordinator.until("refuse")
                with trio.fail_after(DEADLINE_S):
                    while node.node.lease.holds:  # noqa: ASYNC110
                        await trio.sleep(0.01)
                assert await coordinator.last_end("alpha") == "ima_entry_refused"
            host.ima_list.close()
