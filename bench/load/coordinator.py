"""A coordinator under load: the real daemon on one core, many nodes in a process on another."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tccp.protocol import control as c
from tests.support.perimeter import ZERO_PCR, Perimeter
from tests.support.soft_tpm import EkAuthority, SoftTpm

COORDINATOR_CORE, LOAD_CORE = 0, 1
LEASE_S = 600  # renewals come when a policy's new version asks for them, not by time
STORM_S = 120.0


class LoadedCoordinator:
    """A perimeter whose coordinator is held to one core."""

    def __init__(self, directory: Path) -> None:
        authority = EkAuthority(directory / "ca")
        SoftTpm(authority, directory / "first")  # the authority exists once it has made a TPM
        self.perimeter = Perimeter(directory, lease_s=LEASE_S, authority=authority)
        self._loads: list[subprocess.Popen[str]] = []
        self._enrolled = 0
        self._version = 0

    def __enter__(self) -> Self:
        """Start the coordinator."""
        self.perimeter.__enter__()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {COORDINATOR_CORE})
        self.ask_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.end_loads()
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
        """CPU time of the coordinator so far, user and system, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_kib(self) -> int:
        """Memory of the coordinator."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def add_nodes(self, count: int, *, delay_ms: float = 0) -> dict[str, Any]:
        """Enrol and register *count* more nodes; what the load says of it (seconds, times_s, failures)."""
        arguments = ["--control", self.perimeter.control, "--port", self.perimeter.port, "--count", count]
        arguments += ["--first", self._enrolled, "--delay-ms", delay_ms]
        load = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.load.nodes", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self._loads.append(load)
        self._enrolled += count
        assert load.stdout is not None
        report: dict[str, Any] = json.loads(load.stdout.readline())
        assert report["failures"] == 0, report
        return report

    def end_loads(self) -> None:
        """All load nodes leave."""
        for load in self._loads:
            load.communicate("", timeout=60)
        self._loads.clear()

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
