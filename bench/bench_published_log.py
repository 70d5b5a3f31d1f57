"""From the coordinator's store to its log: entries a second through the real path, on one core.

    pytest bench/bench_published_log.py

Events are those of admissions, with bodies as long as theirs. "Behind" is a log that was left behind: the events are in
the database, and the coordinator starts. "Live" are tasks of which each appends an event and waits until its entry is
under a durable, signed checkpoint; "with receipts" waits for the receipt as well. The process is held on one CPU, the
database's thread, the log's thread and the waiting for the disk included.
"""

import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from bench.conftest import Section
from tccp.coordinator.published_log import PublishedLog
from tccp.model import NodeName
from tccp.store import EventDraft, Store, open_store
from tests.support.published import publishing

BEHIND = 100_000
TASKS = 2_000
LIVE = 40_000
BODY = msgspec.msgpack.encode(
    {
        "lease_id": bytes(16),
        "policy": "tvmm",
        "policy_version": 1,
        "boot_id": bytes(16),
        "tls_spki_sha256": bytes(32),
        "software": "0.1.0",
    }
)

Wait = Callable[[PublishedLog, int], Awaitable[object]]


@pytest.fixture(scope="module")
def section() -> Iterator[Section]:
    made = Section(
        "From the store to the log",
        "`pytest bench/bench_published_log.py`. Events of the store's table as entries under a durable, signed "
        "checkpoint, with everything in between: reading, salted commitments, hashing, tiles, syncs. The whole process "
        "is held on one CPU. Bar: >= 20,000 entries a second with group commit.",
        ["work", "entries a second", "entries a second of processor time", "entries a commit"],
    )
    yield made
    made.save()


@contextmanager
def one_cpu() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Measured:
    """What it took, by the clock and of the processor, and in how many commits."""

    def __init__(self, section: Section, what: str, count: int) -> None:
        self._section, self._what, self._count = section, what, count

    async def run(self, log: PublishedLog, work: Callable[[], Awaitable[None]]) -> None:
        commits = 0
        append = log._writer.append

        def counted(first: int, entries: list[bytes]) -> object:
            nonlocal commits
            commits += 1
            return append(first, entries)

        log._writer.append = counted  # type: ignore[method-assign,assignment]
        clock, processor = time.perf_counter(), time.process_time()
        await work()
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        count = self._count
        row = [self._what, f"{count / clock:,.0f}", f"{count / processor:,.0f}", f"{count / commits:,.0f}"]
        self._section.rows.append(row)


async def fill(database: Path, count: int) -> None:
    async with open_store(database):
        pass  # makes the tables
    connection = sqlite3.connect(database)
    rows = ((1_000 + number, f"node-{number % 5000}", BODY) for number in range(count))
    connection.executemany("INSERT INTO event (at_ms, kind, node, body) VALUES (?, 'admit', ?, ?)", rows)
    connection.commit()
    connection.close()


def test_a_log_that_was_left_behind(section: Section, tmp_path: Path) -> None:
    async def run() -> None:
        await fill(tmp_path / "coordinator.db", BEHIND)
        async with publishing(tmp_path) as (_, log):
            measured = Measured(section, f"behind by {BEHIND:,}", BEHIND)
            await measured.run(log, lambda: log.included(BEHIND))

    with one_cpu():
        trio.run(run)


@pytest.mark.parametrize("receipts", ["", ", with receipts"])
def test_live(section: Section, tmp_path: Path, receipts: str) -> None:
    wait: Wait = PublishedLog.receipt if receipts else PublishedLog.included

    async def act(store: Store, log: PublishedLog, times: int) -> None:
        for _ in range(times):
            await wait(log, await store.append_event(EventDraft(1_000, "admit", NodeName("node-1"), BODY)))

    async def run() -> None:
        async with publishing(tmp_path) as (store, log):

            async def work() -> None:
                async with trio.open_nursery() as nursery:
                    for _ in range(TASKS):
                        nursery.start_soon(act, store, log, LIVE // TASKS)

            await act(store, log, 1)
            await Measured(section, f"live, {TASKS:,} tasks{receipts}", LIVE).run(log, work)

    with one_cpu():
        trio.run(run)
