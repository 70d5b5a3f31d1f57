"""What durable state costs: admissions and renewals through the store, and CPU time of each, writer thread included.

    pytest bench/bench_store.py

Each benchmark says in extra_info how many operations a second it reached and how many microseconds of CPU time (of the
whole process) one took. The peer is sqlite3 as one would use it first: a transaction and an fsync for each operation.
"""

import functools
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tccp.store import LeaseRecord, Renewal, Store, open_store
from tccp.store.schema import connect_writer
from tests.store.support import lease, node, policy

NODES = 5_000
TASKS = 500
ROUNDS = 5
LONG_MS = 1 << 40


class Bench:
    """A store with `NODES` nodes in a loop of its own, in another thread."""

    def __init__(self, database: Path) -> None:
        self.store: Store
        self.leases: list[LeaseRecord] = []
        self.numbers = itertools.count()
        self._database = database
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with open_store(self._database) as self.store:
            await self.store.add_policy(policy())
            await self.store.import_nodes([(node(f"n{number}"), b"") for number in range(NODES)])
            await self.in_tasks(TASKS, NODES, self.admit)
            self.leases = await self.store.open_leases(limit=NODES)
            self._ready.set()
            await self._stop.wait()

    def run(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        trio.from_thread.run(function, *args, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
        self._thread.join()

    async def admit(self) -> None:
        number = next(self.numbers)
        record = lease(f"n{number % NODES}", number)
        record = replace(record, expires_ms=LONG_MS, identity=bytes(600))
        await self.store.admit(record, bytes(100))

    async def renew(self, size: int) -> None:
        numbers = [next(self.numbers) for _ in range(size)]
        refusals = await self.store.renew_all([self.renewal(number) for number in numbers])
        assert not any(refusals)

    async def renew_batches(self, batches: int, size: int) -> None:
        for _ in range(batches):
            await self.renew(size)

    def renewal(self, number: int) -> Renewal:
        record = self.leases[number * 7919 % NODES]
        return Renewal(
            lease_id=record.lease_id,
            at_ms=10_000 + number,
            expires_ms=LONG_MS + number,
            reset_count=record.reset_count,
            restart_count=record.restart_count,
            clock_ms=1 << 50,
            policy=record.policy,
            policy_version=record.policy_version,
        )

    async def in_tasks(self, tasks: int, operations: int, operation: Callable[[], Awaitable[None]]) -> None:
        async def one_task() -> None:
            for _ in range(operations // tasks):
                await operation()

        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(one_task)

    async def at_pace(self, batches_a_second: int, seconds: float, operation: Callable[[], Awaitable[None]]) -> None:
        """Start an operation at each tick, whether or not earlier ones are done."""
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for tick in range(int(seconds * batches_a_second)):
                await trio.sleep_until(start + tick / batches_a_second)
                nursery.start_soon(operation)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("store") / "coordinator.db")
    yield bench
    bench.close()


def measure(benchmark: Any, operations: int, work: Callable[[], None]) -> None:
    work()  # warm
    cpu = time.process_time()
    benchmark.pedantic(work, rounds=ROUNDS)
    cpu = time.process_time() - cpu
    benchmark.extra_info["operations_a_second"] = round(operations / benchmark.stats.stats.median)
    benchmark.extra_info["cpu_us_an_operation"] = round(cpu / ROUNDS / operations * 1e6, 1)


@pytest.mark.parametrize(("tasks", "operations"), [(1, 1_000), (TASKS, 10_000)])
def test_admissions(benchmark: Any, bench: Bench, tasks: int, operations: int) -> None:
    measure(benchmark, operations, lambda: bench.run(bench.in_tasks, tasks, operations, bench.admit))
    bench.run(_take_leases, bench)


async def _take_leases(bench: Bench) -> None:
    bench.leases = await bench.store.open_leases(limit=NODES)


@pytest.mark.parametrize("size", [1, 16, 128, 256])
def test_renewals(benchmark: Any, bench: Bench, size: int) -> None:
    """One task hands over batch after batch, as the coordinator does."""
    measure(benchmark, 100 * size, lambda: bench.run(bench.renew_batches, 100, size))


@pytest.mark.parametrize("operation", ["renewals", "nothing"])
def test_5000_renewals_a_second(benchmark: Any, bench: Bench, operation: str) -> None:
    """What renewals cost at the pace that a coordinator must keep; "nothing" is what the pacing itself costs."""
    batch = functools.partial(bench.renew, 100)
    doing = batch if operation == "renewals" else trio.lowlevel.checkpoint
    measure(benchmark, 5_000, lambda: bench.run(bench.at_pace, 50, 1.0, doing))


def test_look_ups(benchmark: Any, bench: Bench) -> None:
    names = [node(f"n{number}").name for number in range(0, NODES, 5)]

    async def look_up() -> None:
        for name in names:
            await bench.store.node_by_name(name)

    measure(benchmark, len(names), lambda: bench.run(look_up))


def test_peer_one_transaction_for_each_renewal(benchmark: Any, tmp_path: Path) -> None:
    connection = connect_writer(tmp_path / "peer.db")
    connection.execute("CREATE TABLE plain (id BLOB PRIMARY KEY, renewed_ms INTEGER, expires_ms INTEGER) STRICT")
    ids = [os.urandom(16) for _ in range(NODES)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO plain VALUES (?, 1, 2)", [(identity,) for identity in ids])
    connection.execute("COMMIT")
    numbers = itertools.count()

    def renew_each(connection: sqlite3.Connection = connection) -> None:
        for _ in range(1_000):
            number = next(numbers)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "UPDATE plain SET renewed_ms = ?, expires_ms = ? WHERE id = ?",
                (number, number, ids[number * 7919 % NODES]),
            )
            connection.execute("COMMIT")

    measure(benchmark, 1_000, renew_each)
    connection.close()
