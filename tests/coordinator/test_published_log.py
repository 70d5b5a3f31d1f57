"""Every event has its entry before it is acknowledged; and what happens when a disk is full or the power off."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.coordinator import published_log
from tccp.coordinator.published_log import PublishedLog
from tccp.errors import StoreError
from tccp.model import NodeName
from tccp.store import EventDraft, open_store
from tccp.transparency.proof import TileHashes
from tccp.transparency.receipt import decode_receipt
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.writer import LogWriter
from tests.store.support import lease, lease_id, policy, prepare
from tests.support.published import (
    append,
    check_that_all_is_told,
    ends_with,
    head_on_disk,
    publish,
    publishing,
    verified,
)

DEADLINE_S = 30.0


# ---- what is told


async def test_an_event_is_in_the_log_when_its_place_is_waited_for(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (store, log):
        for count in (1, 3, 300):
            seq = await append(store, count)
            await log.included(seq)

            assert head_on_disk(tmp_path).size >= seq
            assert log.head.checkpoint == head_on_disk(tmp_path)
        await check_that_all_is_told(tmp_path, store)


async def test_many_who_wait_at_once_share_commits(tmp_path: Path) -> None:
    commits = []

    class CountingWriter(LogWriter):
        def append(self, *arguments: object) -> object:  # type: ignore[override]
            commits.append(arguments)
            return super().append(*arguments)  # type: ignore[arg-type]

    async with publishing(tmp_path) as (store, log):
        log._writer.__class__ = CountingWriter

        async def act() -> None:
            await log.included(await append(store))

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(act)
        await check_that_all_is_told(tmp_path, store)
    assert len(commits) < 20


async def test_who_is_in_a_hurry_does_not_wait_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_log, "COMMIT_EVERY_S", 10 * DEADLINE_S)
    async with publishing(tmp_path) as (store, log):
        with trio.fail_after(DEADLINE_S):
            await log.included(await append(store))
        for _ in range(3):
            seq = await append(store)
            log.hurry()
            with trio.fail_after(DEADLINE_S):
                await log.included(seq)
        # The control: without that it is not written before its time.
        seq = await append(store)
        await store.last_seq()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert log.size < seq
        log.hurry()


async def test_a_receipt_proves_the_event_and_tells_its_details(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (store, log):
        await prepare(store, "alpha")
        admitted = await store.admit(lease("alpha", 1), b"\x81\xa8lease_id\xc4\x10" + lease_id(1))
        for _ in range(2):  # as it becomes durable, and later
            told = verified(await log.receipt(admitted))

            assert (told.kind, told.at_ms, told.index, told.public) == ("admit", 2_000, admitted - 1, {})
            assert told.details == {"node": "alpha", "lease_id": lease_id(1)}


async def test_receipts_of_old_and_new_events_are_made_for_many_at_once(tmp_path: Path) -> None:
    receipts: dict[int, bytes] = {}

    async def get(log: PublishedLog, seq: int) -> None:
        receipts[seq] = await log.receipt(seq)

    async with publishing(tmp_path) as (store, log):
        await log.included(await append(store, 300))
        async with trio.open_nursery() as nursery:
            for seq in range(1, 401):
                nursery.start_soon(get, log, seq)
            await append(store, 100)

    assert [verified(receipts[seq]).index for seq in range(1, 401)] == list(range(400))


async def test_a_receipt_of_what_never_happened_is_refused(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (store, log):
        await log.included(await append(store))

        with pytest.raises(StoreError, match="no_event"):
            await log.receipt(0)


async def test_a_receipt_is_not_made_from_a_damaged_tile(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (store, log):
        await log.included(await append(store, 300))
        tile = tmp_path / "log" / "tile" / "0" / "000"
        tile.write_bytes(bytes(8192))

        with pytest.raises(StoreError, match="damaged"):
            await log.receipt(17)


async def test_a_start_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    heads = [await publish(tmp_path, 200) for _ in range(3)]

    assert [head.size for head in heads] == [200, 400, 600]
    files = TileDirectory(tmp_path / "log")
    assert [TileHashes(files.read_tile, 600).range_hash(0, head.size) for head in heads] == [
        head.root for head in heads
    ]


async def test_events_from_before_there_was_a_log_are_told(tmp_path: Path) -> None:
    async with open_store(tmp_path / "coordinator.db") as store:
        await append(store, 600)

    async with publishing(tmp_path) as (store, log):
        await log.included(600)
        await check_that_all_is_told(tmp_path, store)


# ---- a disk that is full


async def test_who_waits_is_told_that_the_disk_is_full_and_the_entry_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_log, "RETRY_S", 0.01)
    full = True
    write = TileDirectory._write_new

    def write_new(path: Path, data: bytes) -> None:
        if full:
            raise OSError(errno.ENOSPC, "no space left")
        write(path, data)

    async with publishing(tmp_path) as (store, log):
        monkeypatch.setattr(TileDirectory, "_write_new", staticmethod(write_new))
        seq = await append(store)
        with pytest.raises(StoreError, match="disk_full"):
            await log.included(seq)
        with pytest.raises(StoreError, match="disk_full"):
            await log.receipt(seq)
        assert head_on_disk(tmp_path).size == 0
        full = False

        async def included() -> bool:
            try:
                await log.included(seq)
            except StoreError:
                return False
            return True

        with trio.fail_after(DEADLINE_S):
            while not await included():
                pass
        await check_that_all_is_told(tmp_path, store)


async def test_a_database_that_could_not_remember_the_log_and_can_again_is_no_trouble_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(published_log, "RETRY_S", 0.0)
        failed.set()
        raise StoreError("disk_full", "no space")

    failed = trio.Event()
    async with publishing(tmp_path) as (store, log):
        monkeypatch.setattr(published_log, "REMEMBER_EVERY_S", 0.0)
        monkeypatch.setattr(type(store), "set_meta", fail)
        await log.included(await append(store))
        with trio.fail_after(DEADLINE_S):
            await failed.wait()
            while log.problem is not None or log._remembered is not log.head:
                await trio.lowlevel.checkpoint()


async def test_a_writer_that_does_not_know_what_it_wrote_ends_the_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a checkpoint is on the disk whose sync failed, only the next start can tell."""
    with ends_with(StoreError):
        async with publishing(tmp_path) as (store, log):
            monkeypatch.setattr(TileDirectory, "write_checkpoint", _fails)
            with pytest.raises(StoreError, match="io_error"):
                await log.included(await append(store))
            await trio.sleep_forever()
    monkeypatch.undo()

    async with publishing(tmp_path) as (store, log):
        await log.included(1)
        await check_that_all_is_told(tmp_path, store)


def _fails(*_: object) -> None:
    raise StoreError("io_error", "the log")


# ---- power off between any two steps of a commit


class Crash(BaseException):
    """The power went off."""


class Power:
    """Goes off before a certain sync or rename of the log. The database has a test of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.steps = 0
        monkeypatch.setattr(os, "fsync", self._step(os.fsync))
        monkeypatch.setattr(Path, "replace", self._step(Path.replace))

    def _step(self, function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            self.steps += 1
            if self.left is not None:
                if self.left == 0:
                    raise Crash
                self.left -= 1
            return function(*arguments)

        return step


async def test_whatever_a_crash_between_event_and_entry_left_the_next_start_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trial").mkdir()
    with monkeypatch.context() as patch:
        power = Power(patch)
        async with publishing(tmp_path / "trial") as (store, log):
            await log.included(await append(store, 254))
            power.steps = 0
            await log.included(await append(store, 1))
            steps = power.steps
    assert steps >= 6

    for step in range(steps):
        folder = tmp_path / str(step)
        folder.mkdir()
        acknowledged = 0
        with monkeypatch.context() as patch:
            power = Power(patch)
            with ends_with(Crash):
                async with publishing(folder) as (store, log):
                    acknowledged = await append(store, 254)
                    await log.included(acknowledged)
                    power.left = step
                    acknowledged_too = await append(store, 3)
                    await log.included(acknowledged_too)
                    raise AssertionError("it was acknowledged, and never written")
        assert head_on_disk(folder).size >= acknowledged

        async with publishing(folder) as (store, log):
            assert await store.last_seq() == 257
            await log.included(257)
            await check_that_all_is_told(folder, store)
            assert verified(await log.receipt(257)).index == 256


# ---- what entries say


async def test_the_log_tells_everybody_which_policies_were_in_force_and_nothing_about_nodes(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (store, log):
        record = policy()
        body = b"\x83\xa6policy\xa4tvmm\xa7version\x01\xa6sha256\xc4\x20" + record.sha256
        told = verified(await log.receipt(await store.add_policy(record, body)))
        other = verified(await log.receipt(await store.append_event(EventDraft(1, "refuse", NodeName("alpha")))))

    assert told.public == {"policy": "tvmm", "version": 1, "sha256": record.sha256}
    assert other.public == {}


async def test_details_are_in_no_file(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (store, log):
        event = EventDraft(1, "refuse", NodeName("alpha-of-somebody"), b"\x81\xa6reason\xaasome-words")
        receipt = decode_receipt(await log.receipt(await store.append_event(event)))

    assert b"some-words" in receipt.details
    for path in (tmp_path / "log").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"alpha-of-somebody" not in content
            assert b"some-words" not in content
            assert receipt.salt not in content
