"""A whole node daemon's metrics and health; and alerts and dashboard of the examples ask for what is measured."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tccp.node.daemon import Node, serve
from tccp.protocol import control as c
from tests.support.live_coordinator import DEADLINE_S, ZERO, LiveCoordinator, live_coordinator, open_host
from tests.support.monitoring import page, promtool
from tests.support.soft_tpm import SoftTpm

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAME = re.compile(r"\btccp_[a-z_]+\b")


@pytest.fixture
async def measured(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """A coordinator that listens for monitoring systems."""
    folder = tmp_path / "coordinator"
    folder.mkdir()
    async with live_coordinator(folder, coordinator_tpm, extra="[metrics]\nport = 0") as running:
        await running.add_policy({0: ZERO})
        yield running


@pytest.fixture
async def node(measured: LiveCoordinator, host_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[Node]:
    """A node daemon, enrolled as alpha and admitted."""
    async with open_host(host_tpm) as host:
        await measured.enrol("alpha", host)
    trust = await measured.ask(c.GetTrust(), c.TrustFile)
    (tmp_path / "trust.toml").write_bytes(trust.body)
    config = tmp_path / "node.toml"
    config.write_text(
        f'name = "alpha"\n[coordinator]\naddress = "127.0.0.1:{measured.port}"\ntrust_file = "{tmp_path}/trust.toml"\n'
        f'[control]\nsocket = "{tmp_path}/node.sock"\n[tpm]\ntcti = "{host_tpm.tcti}"\nevent_log = ""\n'
        '[metrics]\nport = 0\n[log]\nlevel = "error"\n'
    )
    async with trio.open_nursery() as nursery:
        running = await nursery.start(serve, config)
        await until_it_says(running, "ready")
        yield running
        nursery.cancel_scope.cancel()


async def until_it_says(node: Node, verdict: str) -> None:
    """Until ``/readyz`` says so."""
    with trio.fail_after(DEADLINE_S):
        while (await page(node.metrics_listening, "/readyz")).text != f"{verdict}\n":  # noqa: ASYNC110
            await trio.sleep(0.05)  # a daemon has no event for its tests


async def test_a_node_measures_its_lease_its_vms_and_its_tpm(node: Node) -> None:
    seen = await page(node.metrics_listening, "/metrics")

    assert promtool("check", "metrics", text=seen.text) == (0, "")
    assert seen.number("tccp_node_admitted") == 1
    assert 0 < seen.number("tccp_node_lease_remaining_seconds") <= 60
    assert seen.number("tccp_node_vms", state="running") == 0
    assert seen.number("tccp_tpm_command_duration_seconds_count", command="activate_credential") >= 1
    assert "alpha" not in seen.text


async def test_a_node_that_is_put_out_is_well_and_not_ready(node: Node, measured: LiveCoordinator) -> None:
    await measured.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)

    await until_it_says(node, "not_admitted: revoked")

    assert (await page(node.metrics_listening, "/healthz")).text == "healthy\n"
    seen = await page(node.metrics_listening, "/metrics")
    assert seen.number("tccp_node_admitted") == 0
    assert seen.number("tccp_node_connection_failures_total", reason="revoked") >= 1


async def test_alerts_and_dashboard_name_what_really_is_measured(node: Node, measured: LiveCoordinator) -> None:
    names = (await page(node.metrics_listening, "/metrics")).names
    names |= (await page(measured.services.metrics_listening, "/metrics")).names
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    asked = " ".join(expressions(dashboard)) + (EXAMPLES / "alerts.yaml").read_text()

    assert set(NAME.findall(asked)) > {"tccp_renewals_total", "tccp_node_admitted"}
    assert set(NAME.findall(asked)) - names == set()


def expressions(panel: dict[str, Any]) -> list[str]:
    """Every query of a dashboard."""
    found = [target["expr"] for target in panel.get("targets", ())]
    for below in panel.get("panels", ()):
        found += expressions(below)
    return found


def test_prometheus_takes_the_alerts_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    rules = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(expressions(dashboard))]
    (tmp_path / "panels.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    for file in (EXAMPLES / "alerts.yaml", tmp_path / "panels.yaml"):
        code, said = promtool("check", "rules", file)
        assert code == 0, said


def test_prometheus_raises_the_alerts_when_it_should(tmp_path: Path) -> None:
    """Prometheus' own unit test of rules: a perimeter that is well, and one that is not."""
    cases = {
        "TccpNodeNotAdmitted": ('tccp_node_admitted{instance="a"}', "1x20", "0x20"),
        "TccpLogBehind": ("tccp_log_backlog_entries", "0x20", "3x20"),
        "TccpWitnessSilent": ('tccp_witness_cosignature_age_seconds{witness="w"}', "60x20", "4000x20"),
        "TccpShadowWouldRefuse": ('tccp_shadow_refused{policy="tvmm"}', "0x20", "2x20"),
        "TccpClockWasSet": ("tccp_clock_ahead_seconds", "0x20", "-40x20"),
    }
    (tmp_path / "alerts.yaml").write_text((EXAMPLES / "alerts.yaml").read_text())

    def fires(alert: str, series: str, values: str) -> bool:
        test = {
            "rule_files": ["alerts.yaml"],
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": series, "values": values}],
                    "promql_expr_test": [
                        {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})', "eval_time": "15m"}
                        | {"exp_samples": [{"labels": "{}", "value": 1}]}
                    ],
                }
            ],
        }
        (tmp_path / "test.yaml").write_text(json.dumps(test))
        code, _ = promtool("test", "rules", tmp_path / "test.yaml")
        return code == 0

    assert [alert for alert, (series, well, _) in cases.items() if fires(alert, series, well)] == []
    assert [alert for alert, (series, _, ill) in cases.items() if fires(alert, series, ill)] == list(cases)
