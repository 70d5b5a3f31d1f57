"""The coordinator's metrics and health over its real port, while nodes come, renew and are refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tccp.errors import StoreError
from tccp.node.registration import NodeTpm
from tests.support.live_coordinator import ZERO, HonestNode, LiveCoordinator, live_coordinator
from tests.support.monitoring import page, promtool
from tests.support.soft_tpm import SoftTpm

WITNESS = "witness.example.net/w1+dcaa0527+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
EXTRA = f'[metrics]\nport = 0\n[[witness]]\nurl = "http://127.0.0.1:1/"\nkey = "{WITNESS}"\n'


@pytest.fixture
async def measured(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """A coordinator that listens for monitoring systems; it has no policy."""
    async with live_coordinator(tmp_path, coordinator_tpm, extra=EXTRA) as running:
        yield running


async def test_a_coordinator_counts_what_it_does(measured: LiveCoordinator, host: NodeTpm) -> None:
    await measured.add_policy({0: ZERO, 4: ZERO})
    await measured.enrol("alpha", host)
    alpha = HonestNode(measured, "alpha", host)
    await alpha.register()
    await alpha.renew()
    where = measured.services.metrics_listening

    seen = await page(where, "/metrics")

    assert seen.status == 200
    assert seen.number("tccp_registrations_total") == 1
    assert seen.number("tccp_renewals_total") == 1
    assert seen.number("tccp_nodes_connected") == seen.number("tccp_leases_open") == 1
    assert seen.number("tccp_log_entries") == measured.services.log.size
    assert seen.number("tccp_store_commit_duration_seconds_count") > 3
    assert seen.number("tccp_tpm_command_duration_seconds_count", command="quote") >= 1
    assert seen.number("tccp_witness_entries", witness="witness.example.net/w1") == 0

    await measured.add_policy({0: b"\1" * 32}, version=2)
    alpha.leave()
    assert await alpha.is_refused() == "pcr_not_in_policy"
    assert (await page(where, "/metrics")).number("tccp_refusals_total", reason="pcr_not_in_policy") >= 1


async def test_what_is_measured_passes_prometheus_own_checks_and_names_nobody(
    measured: LiveCoordinator, host: NodeTpm
) -> None:
    await measured.add_policy({0: ZERO})
    await measured.enrol("rack1-07", host)
    node = HonestNode(measured, "rack1-07", host)
    await node.register()

    text = (await page(measured.services.metrics_listening, "/metrics")).text

    assert promtool("check", "metrics", text=text) == (0, "")
    for secret in ("rack1-07", node.lease_id.hex(), "127.0.0.1", measured.services.coordinator_id.hex()):
        assert secret not in text
    code, said = promtool("check", "metrics", text="# TYPE tccp_bad gauge\ntccp_bad_total 1\ntccp_bad 2\n")
    assert code != 0
    assert said


async def test_a_coordinator_is_ready_once_it_has_a_policy_and_while_its_log_can_be_written(
    measured: LiveCoordinator,
) -> None:
    where = measured.services.metrics_listening
    assert (await page(where, "/healthz")).status == 200
    without = await page(where, "/readyz")

    await measured.add_policy({0: ZERO})
    ready = await page(where, "/readyz")
    measured.services.log.problem = StoreError("disk_full", "")
    full = await page(where, "/readyz")

    assert (without.status, without.text) == (503, "no_policy\n")
    assert (ready.status, ready.text) == (200, "ready\n")
    assert (full.status, full.text) == (503, "log_not_written: disk_full\n")


async def test_a_coordinator_whose_tpm_is_gone_is_not_ready(measured: LiveCoordinator) -> None:
    await measured.add_policy({0: ZERO})
    await measured.services.evidence.tpm._channel.aclose()

    seen = await page(measured.services.metrics_listening, "/readyz")

    assert (seen.status, seen.text) == (503, "tpm_gone\n")


async def test_nothing_but_three_pages_is_there(measured: LiveCoordinator) -> None:
    for path in ("/", "/metrics/", "/metrics?x", "//metrics", "/../etc/passwd"):
        assert (await page(measured.services.metrics_listening, path)).status == 404


async def test_nobody_listens_for_monitoring_unless_it_is_wanted(coordinator: LiveCoordinator) -> None:
    assert coordinator.services.metrics_listening == ""
