"""A coordinator under load: the real daemon, and many nodes in a process of their own.

By default each of the two has a core for itself; a coordinator with workers shares all cores with the load.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tccp.protocol import control as c
from tests.support.perimeter import ZERO_PCR, Perimeter
from tests.support.processes import children_of
from tests.support.soft_tpm import EkAuthority, SoftTpm

COORDINATOR_CORE, LOAD_CORE = 0, 1
LEASE_S = 7200  # renewals come when a policy's new version asks for them, not by time
STORM_S = 120.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of asking every connected node at once."""

    nodes: int
    seconds: float  # from the first challenge to the last grant, as the nodes saw it
    a_second: float  # over the whole of it, less the one round trip in which the coordinator has nothing to do
    took_s: tuple[float, ...]  # from a node's answer to its grant
    cpu_s: float  # of the coordinator's own process
    workers_cpu_s: float
    load_cpu_s: float  # of the nodes
    refusals: dict[str, int]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which *share* of them are."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


class LoadedCoordinator:
    """A perimeter whose coordinator has much to do.

    Args:
        directory: Where everything lives.
        authority: Who certifies its TPM; a new one where it is not given.
        workers: As in its configuration.
        shared: Let coordinator, workers and load run on all cores, instead of one core each.
    """

    def __init__(
        self, directory: Path, authority: EkAuthority | None = None, *, workers: int = 1, shared: bool = False
    ) -> None:
        if authority is None:
            authority = EkAuthority(directory / "ca")
            SoftTpm(authority, directory / "first")  # the authority exists once it has made a TPM
        self.perimeter = Perimeter(directory, lease_s=LEASE_S, authority=authority)
        config = self.perimeter.config
        config.write_text(config.read_text().replace("[listen]\n", f"[listen]\nworkers = {workers}\n"))
        self._shared = shared
        self._crowd: subprocess.Popen[str] | None = None
        self._enrolled = 0
        self._version = 0
        self._round_trip_s = 0.0

    def __enter__(self) -> Self:
        """Start the coordinator."""
        self.perimeter.__enter__()
        self._hold_to_its_core()
        self.ask_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.end_load()
        self.perimeter.__exit__(kind, value, trace)

    @property
    def pid(self) -> int:
        """The coordinator's process."""
        return self.perimeter.coordinator.pid

    @property
    def status(self) -> c.CoordinatorStatus:
        """What the coordinator says of itself."""
        answer = self.perimeter.ask(c.GetStatus(), c.CoordinatorStatus)
        assert isinstance(answer, c.CoordinatorStatus)
        return answer

    @property
    def cpu_s(self) -> float:
        """CPU time of the coordinator's own process so far, user and system, all threads."""
        return _cpu_s(self.pid)

    @property
    def worker_pids(self) -> list[int]:
        """The processes of its workers."""
        return sorted(children_of(self.pid, "tccp.coordinator.workers.child"))

    @property
    def workers_cpu_s(self) -> float:
        """CPU time of those workers that run now."""
        return sum(_cpu_s(pid) for pid in self.worker_pids)

    @property
    def resident_kib(self) -> int:
        """Memory of the coordinator."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def _hold_to_its_core(self) -> None:
        if self._shared:
            return
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {COORDINATOR_CORE})

    # ---- the nodes

    def tell(self, do: str, **arguments: object) -> dict[str, Any]:
        """Have the process of the nodes do something; its answer."""
        if self._crowd is None:
            arguments_ = ["--control", str(self.perimeter.control), "--port", str(self.perimeter.port)]
            self._crowd = subprocess.Popen(
                [
                    "taskset",
                    "-c",
                    f"0-{os.cpu_count()}" if self._shared else str(LOAD_CORE),
                    sys.executable,
                    "-m",
                    "bench.load.crowd",
                    *arguments_,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
        assert self._crowd.stdin is not None
        assert self._crowd.stdout is not None
        print(json.dumps({"do": do, **arguments}), file=self._crowd.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._crowd.stdout.readline())
        return answer

    def add_nodes(self, count: int) -> dict[str, Any]:
        """Enrol and register *count* more nodes; what the load says of it (seconds, times_s)."""
        report = self.tell("add", first=self._enrolled, count=count)
        self._enrolled += count
        assert not report["failures"], report["failures"]
        return report

    def set_delay(self, rtt_ms: float) -> None:
        """Let every answer of a node be *rtt_ms* late."""
        self.tell("delay", ms=rtt_ms)
        self._round_trip_s = rtt_ms / 1000

    def end_load(self) -> None:
        """All load nodes leave."""
        if self._crowd is not None:
            self._crowd.communicate("", timeout=60)
            self._crowd = None

    # ---- what happens to them

    def ask_all(self) -> None:
        """Put a new version of the policy in force: every connected node is asked for evidence at once."""
        self._version += 1
        self.perimeter.add_policy("tvmm", {0: ZERO_PCR, 4: ZERO_PCR}, version=self._version)

    def renew_all(self, ask: Callable[[], object] | None = None) -> float:
        """Have every node renew once, by whatever *ask* is; the CPU seconds of the coordinator that this took."""
        before, cpu = self.status, self.cpu_s
        end = time.monotonic() + STORM_S
        (ask or self.ask_all)()
        while self.status.renewals - before.renewals < before.nodes_connected:
            assert time.monotonic() < end, f"not renewed within {STORM_S:.0f} s: {self.status}"
            time.sleep(0.1)
        return self.cpu_s - cpu

    def storm(self, *, bad_every: int = 0) -> Storm:
        """Have every node renew once; each *bad_every*-th answers with bad evidence, and is out."""
        before, cpu, workers_cpu = self.tell("report", anew=True), self.cpu_s, self.workers_cpu_s
        if bad_every:
            self.tell("spoil", every=bad_every)
        self.ask_all()
        report = self._until(lambda report: report["renewals"] + _count(report) >= before["connected"], "renewed")
        cpu, workers_cpu = self.cpu_s - cpu, self.workers_cpu_s - workers_cpu
        told = self.tell("report", anew=True)
        renewed_at = told["renewed_at"]
        seconds = max(renewed_at) - told["asked_at"]
        return Storm(
            nodes=before["connected"],
            seconds=seconds,
            a_second=len(renewed_at) / (seconds - self._round_trip_s),
            took_s=tuple(told["took_s"]),
            cpu_s=cpu,
            workers_cpu_s=workers_cpu,
            load_cpu_s=told["cpu_s"] - before["cpu_s"],
            refusals=report["refusals"],
        )

    def renew_by_time(self, lease_s: int, seconds: float) -> Storm:
        """Let leases of *lease_s* be renewed as they come due, for *seconds*."""
        self._set_lease(lease_s)
        self.storm()  # the new lease counts from the next grant on
        began, cpu, before = time.perf_counter(), self.cpu_s, self.tell("report", anew=True)
        time.sleep(seconds)
        told = self.tell("report", anew=True)
        passed, cpu = time.perf_counter() - began, self.cpu_s - cpu
        self._set_lease(LEASE_S)
        self.storm()
        assert not told["lost"], f"leases of {lease_s} s lapse under this load: {told['lost']}"
        count = told["renewals"]
        took = tuple(told["took_s"])
        return Storm(count, passed, count / passed, took, cpu, 0.0, told["cpu_s"] - before["cpu_s"], {})

    def restart(self) -> tuple[dict[str, Any], float]:
        """Kill the coordinator, start it again, and let all nodes come back; what they say, and its CPU seconds."""
        connected = self.tell("report", anew=True)["connected"]
        self.perimeter.coordinator.kill()
        self._until(lambda report: report["connected"] == 0, "noticed")
        self.perimeter.coordinator.start()
        self._hold_to_its_core()
        report = self.tell("come_back")
        assert len(report["back_s"]) >= connected, report["failures"]  # and who was refused before
        return report, self.cpu_s

    def _set_lease(self, lease_s: int) -> None:
        config = self.perimeter.config
        lines = config.read_text().splitlines()
        lines[lines.index("[leases]") + 1] = f"seconds = {lease_s}"
        config.write_text("\n".join([*lines, ""]))
        os.kill(self.pid, signal.SIGHUP)

    def _until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        end = time.monotonic() + STORM_S
        while not holds(report := self.tell("report")):
            assert time.monotonic() < end, f"not {what} within {STORM_S:.0f} s: {report}"
            time.sleep(LOOK_S)
        return report


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _count(report: dict[str, Any]) -> int:
    return sum(report["refusals"].values())
