"""Keys released through the real coordinator on one core: ticket, two HPKE boxes, one transaction, log, receipt.

    pytest bench/bench_release.py && python -m bench.report

There is no peer: no other system that we know releases keys so. The floor beside it is what the cryptography alone
costs: Ed25519 over the ticket, X-Wing opened once and made once.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from bench.conftest import Section
from bench.load.coordinator import LOAD_CORE, LoadedCoordinator
from bench.load.releasing import IMAGES, make_request
from tccp.image.entrusting import unwrap_keys, wrap_keys
from tccp.image.keys import RecipientSecretKey
from tccp.protocol.statements import COORDINATOR_DOMAIN, CoordinatorStatement
from tccp.protocol.ticket import keys_info, verify_ticket

ROUNDS = 5


@pytest.fixture(scope="module")
def section() -> Iterator[Section]:
    made = Section(
        "Release of keys",
        "`pytest bench/bench_release.py`. Tickets for VMs of three images, each used once, through the real daemon on "
        "one core: signature, keys opened, the transaction, the entry in the signed log with its receipt, keys wrapped "
        "to the node's boot. Medians of five rounds; the load runs on the other core. CPU is that of the coordinator "
        "with all its threads.",
        ["work", "a second", "CPU each", "p50", "p99"],
    )
    yield made
    made.save()


@pytest.fixture(scope="module")
def coordinator() -> Iterator[LoadedCoordinator]:
    with tempfile.TemporaryDirectory(prefix="tccp-") as folder, LoadedCoordinator(Path(folder)) as loaded:
        yield loaded


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def release(loaded: LoadedCoordinator, *, first: int, nodes: int, tickets: int, at_once: int) -> dict[str, Any]:
    """Have *tickets* used up; what the load says of it, and the coordinator's CPU seconds."""
    perimeter = loaded.perimeter
    arguments = ["--control", perimeter.control, "--port", perimeter.port, "--nodes", nodes, "--first", first]
    arguments += ["--tickets", tickets, "--at-once", at_once]
    with subprocess.Popen(
        ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.load.releasing", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as load:
        assert load.stdout is not None
        assert load.stdin is not None
        assert json.loads(load.stdout.readline())["ready"]
        before = loaded.cpu_s
        load.stdin.write("\n")
        load.stdin.flush()
        report: dict[str, Any] = json.loads(load.stdout.readline())
        report["cpu_s"] = loaded.cpu_s - before
    return report


@pytest.mark.parametrize(("nodes", "at_once", "tickets"), [(1, 1, 300), (16, 16, 1_000), (32, 256, 2_000)])
def test_releases(  # noqa: PLR0917
    benchmark: Any, coordinator: LoadedCoordinator, section: Section, nodes: int, at_once: int, tickets: int
) -> None:
    reports: list[dict[str, Any]] = []

    def use_up() -> None:
        first = 10_000 * nodes + 100 * len(reports)
        reports.append(release(coordinator, first=first, nodes=nodes, tickets=tickets, at_once=at_once))

    benchmark.pedantic(use_up, rounds=ROUNDS)
    rate = tickets / percentile([report["seconds"] for report in reports], 0.5)
    each = percentile([report["cpu_s"] for report in reports], 0.5) / tickets
    times = [seconds for report in reports for seconds in report["times_s"]]
    p50, p99 = (f"{1e3 * percentile(times, share):.1f} ms" for share in (0.5, 0.99))
    section.rows.append([f"releases, {at_once} at once", f"{rate:,.0f}", f"{1e6 * each:,.0f} us", p50, p99])


def test_the_cryptography_alone(benchmark: Any, section: Section) -> None:
    """What no implementation can leave out."""
    own, boot, tenant = (RecipientSecretKey.from_seed(bytes(32)), RecipientSecretKey.from_seed(b"\x01" * 32),
                         SigningKey.generate())  # fmt: skip
    statement = CoordinatorStatement(COORDINATOR_DOMAIN, bytes(32), bytes(91), bytes(91), bytes(32), own.public.raw, "")
    request = make_request(tenant, statement)

    def all_of_it() -> None:
        ticket = verify_ticket(request.ticket, request.signature).ticket
        info = keys_info(ticket.tenant_key, ticket.vm_id, ticket.images)
        keys = unwrap_keys(ticket.wrapped_keys, own, info, count=1 + IMAGES)
        wrap_keys(keys, boot.public, info)

    began = time.process_time()
    benchmark.pedantic(all_of_it, rounds=1_000, warmup_rounds=20)
    each = (time.process_time() - began) / 1_020
    section.rows.append(["the cryptography alone", f"{1 / each:,.0f}", f"{1e6 * each:,.0f} us", "", ""])
