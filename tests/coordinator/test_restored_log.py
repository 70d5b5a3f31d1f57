"""Old copies of database or log, and a coordinator that has lost its database: no second history is signed."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest
import trio

from tccp.coordinator import log_opening
from tccp.coordinator.log_entries import entry_of
from tccp.coordinator.log_opening import open_published_log
from tccp.coordinator.published_log import HEAD, PublishedLog
from tccp.errors import ConfigError, LogError, StoreError, TccpError
from tccp.store import FencedError, Store, open_store
from tccp.transparency.checkpoint import verify_checkpoint
from tccp.transparency.proof import TileHashes, prove_consistency
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.witness import cosign, verify_advance
from tests.support.published import (
    SALT_KEY,
    SIGNER,
    append,
    check_that_all_is_told,
    ends_with,
    entries_on_disk,
    head_on_disk,
    publish,
    publishing,
)
from tests.transparency.support import witness

DEADLINE_S = 30.0


@pytest.fixture
async def copies(tmp_path: Path) -> tuple[Path, Path]:
    """A coordinator's folder with 500 events, and a copy of it as it was when they were 300."""
    folder, old = tmp_path / "state", tmp_path / "copy"
    folder.mkdir()
    await publish(folder, 300)
    shutil.copytree(folder, old)
    await publish(folder, 200)
    return folder, old


def restore(folder: Path, old: Path, name: str) -> None:
    """Put back from the copy what *name* begins with."""
    for path in folder.glob(f"{name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in old.glob(f"{name}*"):
        shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder)


async def start_is_refused(folder: Path) -> TccpError:
    """Why a coordinator does not start; and nothing was signed but an empty log where there was none."""
    checkpoint = folder / "log" / "checkpoint"
    before = checkpoint.read_bytes() if checkpoint.exists() else b""
    with pytest.raises(TccpError) as caught:
        async with publishing(folder):
            raise AssertionError("it started")
    assert checkpoint.read_bytes() == before if before else not checkpoint.exists() or head_on_disk(folder).size == 0
    return caught.value


async def test_a_database_older_than_its_log_is_not_gone_on_with(copies: tuple[Path, Path]) -> None:
    folder, old = copies
    restore(folder, old, "coordinator.db")

    problem = await start_is_refused(folder)

    assert isinstance(problem, ConfigError)
    assert (problem.reason, problem.detail) == ("database_rolled_back", "300 events, and the log has 500 entries")
    assert "newest copy" in problem.hint


async def test_control_without_looking_what_happens_next_is_acknowledged_and_never_told(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old = copies
    restore(folder, old, "coordinator.db")
    monkeypatch.setattr(log_opening, "_compare", _looks_at_nothing)

    async with publishing(folder) as (store, log):
        seq = await append(store, 1, "new")
        await log.included(seq)
        (event,) = await store.events_at([seq])

    assert entry_of(event, SALT_KEY).entry not in entries_on_disk(folder)


async def _looks_at_nothing(*_: object) -> None:
    return None


def lose(folder: Path, old: Path, how: str) -> None:
    """The log, or the newest of it."""
    if how == "older":
        restore(folder, old, "log")
    else:
        shutil.rmtree(folder / "log")


def rewrite_an_event(folder: Path) -> None:
    """What happened once happened otherwise now; the database's own guards are taken away first."""
    with closing(sqlite3.connect(folder / "coordinator.db", isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'event'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        changed = connection.execute("UPDATE event SET at_ms = at_ms + 1 WHERE seq = 400").rowcount
    assert changed == 1


@pytest.mark.parametrize("how", ["older", "gone"])
async def test_a_log_that_lacks_what_the_database_has_is_made_again_and_is_the_same(
    copies: tuple[Path, Path], how: str
) -> None:
    folder, old = copies
    before = {path: path.read_bytes() for path in (folder / "log").rglob("*") if path.is_file()}
    lose(folder, old, how)

    async with publishing(folder) as (store, log):
        assert log.size == 500
        assert (folder / "log" / "checkpoint").read_bytes() == before[folder / "log" / "checkpoint"]
        await check_that_all_is_told(folder, store)

    assert {path: path.read_bytes() for path in before if path.exists()}.items() <= before.items()


@pytest.mark.parametrize("how", ["older", "gone"])
async def test_a_log_is_not_made_again_from_another_story(copies: tuple[Path, Path], how: str) -> None:
    folder, old = copies
    lose(folder, old, how)
    rewrite_an_event(folder)

    problem = await start_is_refused(folder)

    assert isinstance(problem, ConfigError)
    assert (problem.reason, problem.detail) == ("log_forked", "another log was signed when it had 500 entries")
    assert "newest copies" in problem.hint


async def test_control_a_database_that_remembers_no_head_makes_the_other_story_the_log(
    copies: tuple[Path, Path],
) -> None:
    folder, old = copies
    seen = head_on_disk(folder)
    lose(folder, old, "older")
    rewrite_an_event(folder)
    with closing(sqlite3.connect(folder / "coordinator.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta WHERE key = ?", (HEAD,))

    async with publishing(folder) as (_, log):
        await log.included(500)
    assert head_on_disk(folder).size == seen.size
    assert head_on_disk(folder).root != seen.root


async def test_tiles_without_a_checkpoint_are_not_written_over(copies: tuple[Path, Path]) -> None:
    folder, _ = copies
    (folder / "log" / "checkpoint").unlink()

    problem = await start_is_refused(folder)

    assert problem.reason == "log_damaged"
    assert "move it away" in problem.hint


async def test_a_log_that_others_have_taken_further_is_not_gone_on_with(copies: tuple[Path, Path]) -> None:
    """It has more entries than were remembered, and other ones before that: only roots tell."""
    folder, old = copies
    restore(folder, old, "log")
    other = folder.parent / "other"
    other.mkdir()
    await publish(other, 600, "two")
    restore(folder, other, "log")
    async with open_store(folder / "coordinator.db") as store:
        await append(store, 100)

    assert (await start_is_refused(folder)).reason == "database_forked"


async def test_a_database_that_tells_another_story_is_not_gone_on_with(tmp_path: Path) -> None:
    folder, other = tmp_path / "state", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    await publish(folder, 300)
    await publish(other, 400, "two")
    async with open_store(other / "coordinator.db") as store:
        await store.set_meta(HEAD, (folder / "log" / "checkpoint").read_bytes())
    restore(folder, other, "coordinator.db")

    assert (await start_is_refused(folder)).reason == "database_forked"


async def test_a_log_that_tells_another_story_is_not_gone_on_with(tmp_path: Path) -> None:
    """Its last entries are those of the database, and an older one is not: only the remembered root tells."""
    folder, other = tmp_path / "state", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    await publish(folder, 100)
    await publish(other, 100, "two")
    for each in (folder, other):
        await publish(each, 300)
    restore(folder, other, "log")

    assert (await start_is_refused(folder)).reason == "log_forked"


async def test_an_older_copy_of_both_goes_on_and_is_found_by_whoever_has_seen_more(copies: tuple[Path, Path]) -> None:
    """Nothing on this machine remembers the lost events; witnesses and tenants do."""
    folder, old = copies
    seen = verify_checkpoint((folder / "log" / "checkpoint").read_bytes(), origin=SIGNER.key.name, log_key=SIGNER.key)
    remembered, _ = cosign(witness(), None, seen, [], at_s=1)
    restore(folder, old, "coordinator.db")
    restore(folder, old, "log")

    for count, reason in ((100, "rollback"), (100, "fork"), (100, "inconsistent")):
        async with publishing(folder) as (store, log):
            await log.included(await append(store, count, "two"))
            head = log.head
        size = head.checkpoint.size
        proof = prove_consistency(TileHashes(TileDirectory(folder / "log").read_tile, size), min(500, size))
        with pytest.raises(LogError, match=reason):
            verify_advance(remembered, head, proof)
        with pytest.raises(LogError, match=reason):
            cosign(witness(), remembered, head, proof, at_s=2)


# ---- another coordinator


class BlindStore:
    """A store that does not ask whether it has been taken over."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def check_fence(self) -> None:
        """Do not look."""


async def fenced(folder: Path, as_seen_by: Callable[[Store], Store]) -> None:
    """A coordinator has an event and not yet its entry when another takes its database."""
    async with open_store(folder / "coordinator.db") as first:
        opened: AbstractAsyncContextManager[PublishedLog] = open_published_log(
            folder / "log", as_seen_by(first), SIGNER, SALT_KEY
        )
        async with opened as log:
            await append(first)
            async with open_store(folder / "coordinator.db"):
                with trio.move_on_after(DEADLINE_S):
                    async with trio.open_nursery() as nursery:
                        log._remember_at = float("inf")
                        nursery.start_soon(log.run)
                        await log.included(1)
                        nursery.cancel_scope.cancel()


async def test_one_who_has_lost_the_database_signs_nothing(tmp_path: Path) -> None:
    with ends_with(FencedError):
        await fenced(tmp_path, lambda store: store)

    assert head_on_disk(tmp_path).size == 0


async def test_control_one_who_does_not_ask_signs(tmp_path: Path) -> None:
    await fenced(tmp_path, BlindStore)  # type: ignore[arg-type]

    assert head_on_disk(tmp_path).size == 1


async def test_two_cannot_write_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_opening, "PREDECESSOR_S", 0.0)
    async with publishing(tmp_path), open_store(tmp_path / "other.db") as other:
        with pytest.raises(StoreError, match="locked"):
            async with open_published_log(tmp_path / "log", other, SIGNER, SALT_KEY):
                raise AssertionError("it was opened")
