"""What a version in the shadow of a policy costs the coordinator: CPU of each renewal, with and without one.

pytest bench/bench_shadow.py && python -m bench.report
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.conftest import Section
from bench.load.coordinator import LoadedCoordinator
from tccp.protocol import shadow_control as s
from tests.support.perimeter import ZERO_PCR

NODES = 2_000
ROUNDS = 7
NEWEST = 1_000_000  # what the load puts in force to have all nodes renew stays older
OTHER_PCR = "ab" * 32


def _shadow(value: str) -> bytes:
    return f'name = "tvmm"\nversion = {NEWEST}\n[pcrs]\n0 = "{ZERO_PCR}"\n4 = "{value}"\n'.encode()


def test_renewals_with_a_version_in_the_shadow(benchmark: Any) -> None:
    section = Section(
        "Shadow versions",
        f"`pytest bench/bench_shadow.py`. {NODES:,} nodes renew at once, in turn without a version in the shadow of "
        "their policy, with one that would accept them and with one that would refuse them all; medians of "
        f"{ROUNDS} rounds, CPU of the coordinator with all its threads.",
        ["version in the shadow", "CPU of a renewal", "more"],
    )
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder, LoadedCoordinator(Path(folder)) as coordinator:
        coordinator.add_nodes(NODES)
        coordinator.renew_all()  # what is touched for the first time is slow

        def beside(body: bytes) -> None:
            coordinator.renew_all(lambda: coordinator.perimeter.ask(s.AddShadow(body), s.ShadowInfo))

        def alone() -> None:
            if coordinator.status.shadows:
                coordinator.perimeter.ask(s.DropShadow("tvmm"), s.ShadowInfo)

        ways: dict[str, Callable[[], None]] = {
            "none": alone,
            "one that accepts": lambda: beside(_shadow(ZERO_PCR)),
            "one that refuses": lambda: beside(_shadow(OTHER_PCR)),
        }
        cpu: dict[str, list[float]] = {way: [] for way in ways}

        def in_turn() -> None:
            for way, prepare in ways.items():
                prepare()
                cpu[way].append(coordinator.renew_all())

        benchmark.pedantic(in_turn, rounds=ROUNDS)
    medians = {way: statistics.median(seconds) / NODES for way, seconds in cpu.items()}
    for way, each in medians.items():
        section.rows.append([way, f"{1e6 * each:,.0f} us", f"{100 * (each / medians['none'] - 1):+.1f} %"])
    section.save()
