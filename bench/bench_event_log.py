"""Parse and replay firmware event logs through the Python function, beside what Keylime does with the same log.

    pytest bench/bench_event_log.py && python -m bench.report

Keylime 7.14 runs ``tpm2_eventlog`` and reads the YAML that it prints (``bootlog_parse``). The bar is a hundred times.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from bench.conftest import RESULTS, Section
from bench.keylime_peer import Keylime
from tccp.attestation.event_log import explain_incomplete, replay_event_log
from tccp.model import PcrBank, PcrSelection, PcrValues

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "eventlog"
ROUNDS = 7

LOGS = {
    "laptop, 2 banks, 49 KB": "keylime/binary_bios_measurements",
    "server, 1 bank, 50 KB": "go-tpm-tools/gdc-host.bin",
    "server, 2 banks, 55 KB": "guard-oss/dl160-fwupd-report.bin",
    "cloud VM, 3 banks, 45 KB": "go-tpm-tools/ubuntu-2404-amd-sevsnp.bin",
    "cloud VM, 3 banks, 24 KB": "gce/eventlog.bin",
    "systemd-boot, 1 bank, 3 KB": "tpm2-tools/event-sd-boot-fedora37.bin",
}
WAYS = ("quoted bank", "all banks", "explained, every event decoded")


@pytest.fixture(scope="module")
def section() -> Iterator[Section]:
    made = Section(
        "Firmware event logs",
        "`pytest bench/bench_event_log.py`. Microseconds for one log through Python, medians; in brackets how many "
        "times faster than Keylime 7.14.3's `bootlog_parse` (milliseconds, median of seven). Bar: >= 100.",
        ["log", "Keylime", *WAYS],
    )
    yield made
    made.save()


@pytest.fixture(scope="module")
def keylime() -> dict[str, float]:
    """Seconds of processor time that Keylime and the tool it calls take for each log."""
    given = {name: b64encode((VECTORS / path).read_bytes()).decode() for name, path in LOGS.items()}
    with Keylime(RESULTS, "parse_event_log.py", given) as peer:
        return {name: median(peer.round(name) for _ in range(ROUNDS)) for name in LOGS}


@pytest.fixture(scope="module", params=LOGS)
def row(request: pytest.FixtureRequest, section: Section, keylime: dict[str, float]) -> Iterator[dict[str, float]]:
    name = str(request.param)
    found = {"keylime": keylime[name], "log": float(list(LOGS).index(name))}
    yield found
    cells = [f"{1e6 * found[way]:,.0f} ({found['keylime'] / found[way]:,.0f}x)" for way in WAYS if way in found]
    section.rows.append([name, f"{1e3 * found['keylime']:.1f} ms", *cells])


@pytest.mark.parametrize("way", WAYS)
def test_replay(benchmark: Any, row: dict[str, float], way: str) -> None:
    log = (VECTORS / list(LOGS.values())[int(row["log"])]).read_bytes()
    values = dict(replay_event_log(log).pcrs(PcrBank.SHA256))
    pcrs = PcrValues(PcrSelection.of(PcrBank.SHA256, values), values)

    def explained() -> int:
        found = explain_incomplete(replay_event_log(log, [PcrBank.SHA256]), pcrs)
        return len([entry.event.content() for entry in found.events])

    work: Callable[[], Any] = {
        WAYS[0]: lambda: replay_event_log(log, [PcrBank.SHA256]).extended(PcrBank.SHA256),
        WAYS[1]: lambda: replay_event_log(log).extended(PcrBank.SHA256),
        WAYS[2]: explained,
    }[way]
    assert benchmark(work)
    row[way] = benchmark.stats.stats.median
