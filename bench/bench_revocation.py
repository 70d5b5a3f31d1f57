"""How soon connected nodes hear that they are revoked, and have acknowledged it in the coordinator's log.

pytest bench/bench_revocation.py && python -m bench.report
"""

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.conftest import Section
from bench.load.coordinator import LoadedCoordinator
from tccp.control.client import ControlClient
from tccp.protocol import control as c

NODES = 1_000
AT_ONCE = 8  # administrators, each with one request at a time
BAR_MS = 2_000


def _revoke(control: Path, names: Sequence[str]) -> None:
    with ControlClient(control) as client:
        for name in names:
            client.ask(c.RevokeNode(name, "measured", "routine"), c.NodeInfo)


def _revoke_all(coordinator: LoadedCoordinator, names: list[str]) -> tuple[float, list[int]]:
    """Revoke them as fast as can be.

    Returns:
        Seconds until the last acknowledgement is in the log; milliseconds from each revocation there to its own.
    """
    control, revoked, took_ms = coordinator.perimeter.control, dict[str, int](), list[int]()
    began = time.monotonic()
    threads = [threading.Thread(target=_revoke, args=(control, names[first::AT_ONCE])) for first in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    with ControlClient(control) as client:
        for event in client.stream(c.WatchEvents(0, follow=True), c.Event):
            if event.kind == "revoke":
                revoked[event.node] = event.at_ms
            elif event.kind == "told":
                assert event.fields["heard"] == "left", event
                took_ms.append(event.at_ms - revoked[event.node])
                if len(took_ms) == len(names):
                    break
    seconds = time.monotonic() - began
    for thread in threads:
        thread.join()
    return seconds, sorted(took_ms)


def test_nodes_hear_of_their_revocation(benchmark: Any) -> None:
    section = Section(
        "Revocation",
        f"`pytest bench/bench_revocation.py`. From the revocation in the record to the acknowledgement of the node in "
        f"the log, by the coordinator's clock: {NODES:,} nodes are connected, and all are revoked, {AT_ONCE} requests "
        f"at a time. Bar: < {BAR_MS / 1000:.0f} s.",
        ["revoked", "in all", "p50", "p99", "slowest"],
    )
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder, LoadedCoordinator(Path(folder)) as coordinator:
        coordinator.add_nodes(NODES)
        names = [f"load-{number}" for number in range(NODES)]
        found: list[tuple[float, list[int]]] = []
        benchmark.pedantic(lambda: found.append(_revoke_all(coordinator, names)), rounds=1)
    ((seconds, took_ms),) = found
    row = [f"{NODES:,} nodes", f"{seconds:.1f} s"]
    row += [f"{took_ms[int(share * (len(took_ms) - 1))]} ms" for share in (0.5, 0.99, 1.0)]
    section.rows.append(row)
    section.save()
    assert took_ms[-1] < BAR_MS
