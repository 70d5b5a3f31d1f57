"""Parse and replay firmware event logs through the Python function, and what the same work costs elsewhere.

The peer is what Keylime does with a log (7.14, ``bootlog_parse``): it runs ``tpm2_eventlog`` and reads the YAML that it
prints. ``tpm2_eventlog`` alone is measured here, which is a floor under that. The bar is a hundred times Keylime.

    pytest bench/bench_event_log.py
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tccp.attestation.event_log import explain_incomplete, replay_event_log
from tccp.model import PcrBank, PcrSelection, PcrValues

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "eventlog"
Benchmark = Callable[..., Any]  # pytest-benchmark's fixture

LOGS = {
    "laptop, 2 banks, 49 KB": "keylime/binary_bios_measurements",
    "server, 1 bank, 50 KB": "go-tpm-tools/gdc-host.bin",
    "server, 2 banks, 55 KB": "guard-oss/dl160-fwupd-report.bin",
    "cloud VM, 3 banks, 45 KB": "go-tpm-tools/ubuntu-2404-amd-sevsnp.bin",
    "cloud VM, 3 banks, 24 KB": "gce/eventlog.bin",
    "systemd-boot, 1 bank, 3 KB": "tpm2-tools/event-sd-boot-fedora37.bin",
}


@pytest.fixture(params=LOGS.values(), ids=LOGS.keys())
def path(request: pytest.FixtureRequest) -> Path:
    return VECTORS / str(request.param)


@pytest.fixture(autouse=True)
def _one_group_for_each_log(request: pytest.FixtureRequest, benchmark: Any) -> None:
    benchmark.group = request.node.callspec.id


def test_tccp_in_the_quoted_bank(benchmark: Benchmark, path: Path) -> None:
    replayed = benchmark(replay_event_log, path.read_bytes(), [PcrBank.SHA256])
    assert replayed.extended(PcrBank.SHA256)


def test_tccp_in_all_banks(benchmark: Benchmark, path: Path) -> None:
    replayed = benchmark(replay_event_log, path.read_bytes())
    assert replayed.extended(PcrBank.SHA256)


def test_tccp_explaining_pcrs_with_every_event_decoded(benchmark: Benchmark, path: Path) -> None:
    log = path.read_bytes()
    values = dict(replay_event_log(log).pcrs(PcrBank.SHA256))
    pcrs = PcrValues(PcrSelection.of(PcrBank.SHA256, values), values)

    def work() -> int:
        explained = explain_incomplete(replay_event_log(log, [PcrBank.SHA256]), pcrs)
        return len([entry.event.content() for entry in explained.events])

    assert benchmark(work) > 0


def test_tpm2_eventlog(benchmark: Any, path: Path) -> None:
    def work() -> bytes:
        return subprocess.run(["tpm2_eventlog", path], capture_output=True, check=True).stdout

    assert b"pcrs:" in benchmark.pedantic(work, rounds=10)
