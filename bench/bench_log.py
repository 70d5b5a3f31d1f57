"""The transparency log: entries a second through its writer, and proofs of any of ten million entries.

    pytest bench/bench_log.py

Appending is with everything that makes it durable: every file and folder synced, a checkpoint signed for each batch.
Processor time is the whole process's, on one thread. The tree of ten million is a real one, hashed leaf by leaf; only
its entries are not kept, as no proof reads them. A proof is made with no tile in our memory: each is read from its file
(which the system may hold) and hashed.
"""

import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from bench.conftest import Section
from tccp.merkle import leaf_hash
from tccp.transparency.note import NoteSigner
from tccp.transparency.proof import (
    TileHashes,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.tree_edge import TreeEdge
from tccp.transparency.writer import LogWriter

ENTRY_BYTES = 300
BATCHES = [64, 256, 1_024, 4_096]
ROUNDS = 20
SIZE = 10_000_000
PROOFS = 2_000
AT_ONCE = 1 << 16


@pytest.fixture(scope="module")
def appending() -> Iterator[Section]:
    section = Section(
        "Appending to the log",
        f"`pytest bench/bench_log.py`. Entries of {ENTRY_BYTES} bytes through `LogWriter.append`, durable and under a "
        f"signed checkpoint, {ROUNDS} batches after each other. Bar: >= 20,000 entries a second with group commit, on "
        "one core.",
        ["entries a commit", "entries a second", "commits a second", "entries a second of processor time"],
    )
    yield section
    section.save()


@pytest.fixture(scope="module")
def proving() -> Iterator[Section]:
    section = Section(
        "Proofs from the log",
        f"`pytest bench/bench_log.py`. Random entries and sizes of a tree of {SIZE:,}, {PROOFS:,} of each, in "
        "milliseconds; tiles are read from their files each time. Bar: any of ten million entries in < 10 ms.",
        ["what", "median", "99 of 100", "worst", "worst, processor time"],
    )
    yield section
    section.save()


@pytest.mark.parametrize("batch", BATCHES)
def test_appending(appending: Section, tmp_path: Path, batch: int) -> None:
    signer = NoteSigner("bench.example/log", SigningKey(bytes(32)))
    batches = [[os.urandom(ENTRY_BYTES) for _ in range(batch)] for _ in range(ROUNDS)]
    with LogWriter.create(tmp_path / "log", signer) as log:
        log.append(0, [b"warm"] * 300)
        wall, processor = time.perf_counter(), time.process_time()
        for entries in batches:
            log.append(log.size, entries)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    count = batch * ROUNDS
    appending.rows.append([f"{batch:,}", f"{count / wall:,.0f}", f"{ROUNDS / wall:,.0f}", f"{count / processor:,.0f}"])


def entry(index: int) -> bytes:
    return b"entry %d" % index


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[TileDirectory, bytes]:
    """Tiles of a tree of `SIZE` entries, as a writer would leave them, and its root."""
    directory = tmp_path_factory.mktemp("tree")
    edge = TreeEdge()
    for start in range(0, SIZE, AT_ONCE):
        tiles = edge.extend(leaf_hash(entry(index)) for index in range(start, min(start + AT_ONCE, SIZE)))
        for tile, data in (tiles | (edge.partial_tiles() if edge.size == SIZE else {})).items():
            path = directory / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return TileDirectory(directory), edge.root()


class Times:
    """How long something took, each time: by the clock, and of the processor."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.clock: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        processor, clock = time.thread_time(), time.perf_counter()
        yield
        self.clock.append(time.perf_counter() - clock)
        self.processor.append(time.thread_time() - processor)

    def row(self) -> list[str]:
        ordered = sorted(self.clock)
        numbers = (statistics.median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1], max(self.processor))
        return [self.what, *(f"{number * 1e3:.2f}" for number in numbers)]


def test_proofs(proving: Section, tree: tuple[TileDirectory, bytes]) -> None:
    files, root = tree
    choice = random.Random(1)  # noqa: S311 - the same entries in every run
    inclusion, verification = Times("inclusion, made"), Times("inclusion, verified")
    consistency = Times("consistency, made")
    for _ in range(PROOFS):
        index = choice.randrange(SIZE)
        with inclusion.one():
            path = prove_inclusion(TileHashes(files.read_tile, SIZE), index)
        with verification.one():
            verify_inclusion(entry(index), index, size=SIZE, root=root, path=path)
        with consistency.one():
            path = prove_consistency(TileHashes(files.read_tile, SIZE), index + 1)
    old_root = TileHashes(files.read_tile, SIZE).range_hash(0, index + 1)
    verify_consistency(index + 1, old_root, SIZE, root, path)
    proving.rows += [inclusion.row(), verification.row(), consistency.row()]
