"""What was done to the keys reaches the log, each once, whenever the daemon was killed."""

import fcntl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
import trio

from tccp.coordinator.custody.journal import log_what_was_done, parse_journal, write_down
from tccp.errors import ConfigError
from tccp.store import EventDraft, EventKind, Store, open_store
from tests.coordinator.custody.conftest import NOW_MS


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "coordinator.db") as opened:
        await opened.append_event(EventDraft(NOW_MS, EventKind.START))
        yield opened


async def kinds(store: Store) -> list[str]:
    return [event.kind for event in await store.events()]


async def test_events_are_logged_in_order_and_once(store: Store, tmp_path: Path) -> None:
    write_down(tmp_path, EventKind.KEYS_SEALED, NOW_MS, {"authority": "ab"})
    write_down(tmp_path, EventKind.APPROVAL_INSTALLED, NOW_MS + 1, {"generation": 3})

    await log_what_was_done(tmp_path, store, NOW_MS + 5)
    await log_what_was_done(tmp_path, store, NOW_MS + 6)

    assert await kinds(store) == ["start", "keys_sealed", "approval_installed"]
    events = await store.events()
    assert [event.at_ms for event in events] == [NOW_MS, NOW_MS + 5, NOW_MS + 5]
    body = msgspec.msgpack.decode(events[2].body)
    assert (body["done_ms"], body["generation"]) == (NOW_MS + 1, 3)


@pytest.mark.parametrize("logged", [0, 1, 2, 3])
async def test_a_daemon_that_ended_in_between_logs_none_twice(store: Store, tmp_path: Path, logged: int) -> None:
    for generation in range(3):
        write_down(tmp_path, EventKind.APPROVAL_INSTALLED, NOW_MS, {"generation": generation})
    for event in parse_journal((tmp_path / "journal").read_bytes())[:logged]:
        await store.append_event(EventDraft(NOW_MS, event.kind, None, event.body))

    await log_what_was_done(tmp_path, store, NOW_MS)

    bodies = [msgspec.msgpack.decode(event.body)["generation"] for event in (await store.events())[1:]]
    assert bodies == [0, 1, 2]
    assert not (tmp_path / "journal").exists()


def test_a_line_that_was_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    write_down(tmp_path, EventKind.KEYS_SEALED, NOW_MS, {})
    whole = (tmp_path / "journal").read_bytes()

    assert [event.kind for event in parse_journal(whole + whole[:-5])] == [EventKind.KEYS_SEALED]


def test_what_is_written_after_a_line_that_was_cut_off_takes_its_place(tmp_path: Path) -> None:
    write_down(tmp_path, EventKind.KEYS_SEALED, NOW_MS, {})
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"id": "00')  # the disk was full

    write_down(tmp_path, EventKind.APPROVAL_INSTALLED, NOW_MS, {})

    found = parse_journal((tmp_path / "journal").read_bytes())
    assert [event.kind for event in found] == [EventKind.KEYS_SEALED, EventKind.APPROVAL_INSTALLED]


async def test_what_is_written_down_while_a_daemon_starts_is_not_lost(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, flock, comes = type(store).append_event, fcntl.flock, threading.Event()

    def take_turns(file: BinaryIO, operation: int) -> None:
        comes.set()
        flock(file, operation)

    async def append_while_somebody_writes(store: Store, event: EventDraft) -> int:
        monkeypatch.setattr(fcntl, "flock", take_turns)
        nursery.start_soon(trio.to_thread.run_sync, write_down, tmp_path, EventKind.APPROVALS_ENDED, NOW_MS, {})
        await trio.to_thread.run_sync(comes.wait, 10.0)
        return await append(store, event)

    write_down(tmp_path, EventKind.KEYS_SEALED, NOW_MS, {})
    async with trio.open_nursery() as nursery:
        monkeypatch.setattr(type(store), "append_event", append_while_somebody_writes)
        await log_what_was_done(tmp_path, store, NOW_MS)
    monkeypatch.undo()
    await log_what_was_done(tmp_path, store, NOW_MS)

    assert await kinds(store) == ["start", "keys_sealed", "approvals_ended"]


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'{"id": 1}', b"\xff"])
def test_a_journal_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(ConfigError, match="journal_damaged"):
        parse_journal(line + b"\n")


def test_only_events_of_the_keys_can_stand_in_it() -> None:
    line = {"id": "00" * 16, "kind": "admit", "done_ms": 1, "facts": {}}

    with pytest.raises(ConfigError, match="journal_damaged"):
        parse_journal(msgspec.json.encode(line) + b"\n")
