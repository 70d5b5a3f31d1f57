"""One coordinator and 1 to 10,000 connected nodes with real keys and fresh signatures: how it scales, what storms do.

    pytest bench/bench_scale.py && python -m bench.report

docs/SCALING.md reckons from these figures what a million nodes need.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from bench.chart import Line, Panel
from bench.conftest import Section
from bench.load.coordinator import LoadedCoordinator, Storm, percentile

COUNTS = [int(count) for count in os.environ.get("BENCH_NODES", "1,10,100,1000,10000").split(",")]
RTTS_MS = (0, 4, 150)
ROUNDS = 3
WORKERS = (1, 2)
WORKER_NODES = int(os.environ.get("BENCH_WORKER_NODES", "4000"))
BAD_EVERY = 100
STEADY_S = 8.0
# A lease of this many seconds and more leaves a loaded machine time to renew it.
STEADY_LEASE_S, STEADY_NODES_A_SECOND = 4, 800
COUNTED_FROM = 100  # the kernel counts CPU in ticks: fewer renewals say nothing
Curves: TypeAlias = dict[int, list[tuple[float, float]]]  # round trip, ms -> nodes, and what was measured


@pytest.fixture(scope="module")
def nodes() -> Iterator[Section]:
    made = Section(
        "Nodes",
        "`pytest bench/bench_scale.py`. The real daemon on one core; on the other a process of nodes, each with keys "
        "of its own, which signs every quote afresh, and adds the round trip. In a storm all nodes are asked at once; "
        "a second: from the asking to the last grant, less the one round trip in which nobody has answered yet; "
        "medians of three. p50 and p99: from a node's answer to its grant, so in a storm it stands in the queue of "
        "all. By time: leases as long as the row says, renewed as they come due. CPU is the coordinator's with all "
        "its threads, for each renewal; the load's beside, on its own core. Bar: >= 5,000 a second on one core, that "
        "is 200 us, at any round trip.",
        ["nodes", "work", "RTT", "a second", "CPU each", "load's CPU each", "p50", "p99", "memory a node"],
    )
    yield made
    made.save()


@pytest.fixture(scope="module")
def events() -> Iterator[Section]:
    made = Section(
        "Restarts and bad evidence",
        "`pytest bench/bench_scale.py`, as above. After a restart every node comes back on its own, with the pauses of "
        "the node daemon; the time is that from the restart until the last one has a lease again, and half of "
        "them. Bad evidence: the same storm where one node in a hundred signs wrongly, answers another nonce, or "
        "claims other PCRs; its lease ends, in the log, before it is told.",
        ["work", "nodes", "took", "half of them", "a second", "CPU each", "of which failed"],
    )
    yield made
    made.save()


@pytest.fixture(scope="module")
def shared() -> Iterator[Section]:
    made = Section(
        "Workers",
        f"`pytest bench/bench_scale.py`. {WORKER_NODES:,} nodes; coordinator, workers and load share {os.cpu_count()} "
        "cores, so with two of them a second process gains what the load leaves. What scales is the first column of "
        "CPU: the coordinator's own process has to do that alone, the rest spreads over workers and cores.",
        ["workers", "work", "a second", "coordinator's CPU each", "workers' CPU each", "load's CPU each", "p99"],
    )
    yield made
    made.save()


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms"


def row(count: int, work: str, rtt_ms: int, storm: Storm) -> list[str]:
    renewed = max(len(storm.took_s), 1)
    cpu = [
        f"{1e6 * seconds / renewed:,.0f} us" if renewed >= COUNTED_FROM else ""
        for seconds in (storm.cpu_s, storm.load_cpu_s)
    ]
    times = [ms(percentile(storm.took_s, share)) for share in (0.5, 0.99)]
    return [f"{count:,}", work, f"{rtt_ms} ms", f"{storm.a_second:,.0f}", *cpu, *times]


def test_from_one_node_to_all(nodes: Section, events: Section) -> None:
    """The same coordinator all along: more and more nodes, then a restart."""
    speed: Curves = {rtt_ms: [] for rtt_ms in RTTS_MS}
    waits: Curves = {rtt_ms: [] for rtt_ms in RTTS_MS}
    costs: Curves = {rtt_ms: [] for rtt_ms in RTTS_MS}
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder, LoadedCoordinator(Path(folder)) as loaded:
        alone_kib, enrolled = loaded.resident_kib, 0
        for count in COUNTS:
            loaded.add_nodes(count - enrolled)
            enrolled = count
            loaded.set_delay(0)
            loaded.storm()  # what is touched for the first time is slow
            memory = f"{(loaded.resident_kib - alone_kib) / count:,.0f} KiB" if count >= 100 else ""
            for rtt_ms in RTTS_MS:
                loaded.set_delay(rtt_ms)
                storms = sorted((loaded.storm() for _ in range(ROUNDS)), key=lambda storm: storm.a_second)
                middle = storms[len(storms) // 2]
                nodes.rows.append([*row(count, "storm", rtt_ms, middle), memory])
                speed[rtt_ms].append((count, middle.a_second))
                waits[rtt_ms].append((count, 1e3 * percentile(middle.took_s, 0.99)))
                if count >= COUNTED_FROM:
                    costs[rtt_ms].append((count, 1e6 * middle.cpu_s / len(middle.took_s)))
                nodes.charts = charts(speed, waits, costs)
            lease_s = max(STEADY_LEASE_S, count // STEADY_NODES_A_SECOND)
            steady = loaded.renew_by_time(lease_s, STEADY_S)
            nodes.rows.append([*row(count, f"by time, {lease_s} s", RTTS_MS[-1], steady), ""])
        loaded.set_delay(0)
        clean, spoilt = loaded.storm(), loaded.storm(bad_every=BAD_EVERY)
        assert sum(spoilt.refusals.values()) + len(spoilt.took_s) == spoilt.nodes
        for name, storm in (("storm, all honest", clean), ("storm, 1 % bad evidence", spoilt)):
            half = ms(percentile(storm.took_s, 0.5))
            numbers = [f"{storm.a_second:,.0f}", f"{1e6 * storm.cpu_s / storm.nodes:,.0f} us"]
            bad = f"{sum(storm.refusals.values())} refused"
            events.rows.append([name, f"{storm.nodes:,}", f"{storm.seconds:,.1f} s", half, *numbers, bad])
        began = time.perf_counter()
        report, cpu_s = loaded.restart()
        back_s, failed = report["back_s"], sum(report["failures"].values())
        rate = f"{len(back_s) / max(back_s):,.0f}"
        times = [f"{max(back_s):,.1f} s", f"{percentile(back_s, 0.5):,.1f} s", rate, ms(cpu_s / len(back_s))]
        events.rows.append(["restart, all come back", f"{len(back_s):,}", *times, f"{failed} attempts"])
        print(f"restarted in {time.perf_counter() - began:.0f} s: {report['failures']}")


@pytest.mark.parametrize("workers", WORKERS)
def test_workers(workers: int, shared: Section) -> None:
    """On all cores, which the load has its share of."""
    with (
        tempfile.TemporaryDirectory(prefix="tccp-") as folder,
        LoadedCoordinator(Path(folder), workers=workers, shared=True) as loaded,
    ):
        cpu, workers_cpu = loaded.cpu_s, loaded.workers_cpu_s
        report = loaded.add_nodes(WORKER_NODES)
        cpu, workers_cpu = loaded.cpu_s - cpu, loaded.workers_cpu_s - workers_cpu
        each = [f"{1e6 * seconds / WORKER_NODES:,.0f} us" for seconds in (cpu, workers_cpu)]
        rate = f"{WORKER_NODES / report['seconds']:,.0f}"
        shared.rows.append([str(workers), "registrations, 64 at once", rate, *each, "", ""])
        loaded.storm()
        storms = sorted((loaded.storm() for _ in range(ROUNDS)), key=lambda storm: storm.a_second)
        middle = storms[len(storms) // 2]
        seconds = (middle.cpu_s, middle.workers_cpu_s, middle.load_cpu_s)
        each = [f"{1e6 * part / middle.nodes:,.0f} us" for part in seconds]
        p99 = ms(percentile(middle.took_s, 0.99))
        shared.rows.append([str(workers), "renewals, all at once", f"{middle.a_second:,.0f}", *each, p99])


def charts(*measured: Curves) -> list[Panel]:
    """Renewals a second, how long the slowest hundredth waits, and what each costs, against nodes."""
    speed, waits, costs = measured

    def lines(found: Curves) -> list[Line]:
        return [Line(kind=f"{rtt_ms} ms RTT", variant="", points=points) for rtt_ms, points in found.items() if points]

    about = {"x_label": "connected nodes", "x_base": 10}
    return [
        Panel(title="Renewals in a storm", y_label="a second", lines=lines(speed), **about),  # type: ignore[typeddict-item]
        Panel(title="p99 from answer to grant", y_label="ms", lines=lines(waits), y_powers="10", **about),  # type: ignore[typeddict-item]
        Panel(title="The coordinator's CPU for each", y_label="us", lines=lines(costs), **about),  # type: ignore[typeddict-item]
    ]
