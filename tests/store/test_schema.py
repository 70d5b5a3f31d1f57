"""What is opened, what is refused, and how a file gets from one version to the next."""

import sqlite3
import threading
from pathlib import Path

import pytest

from tccp.errors import ConfigError, StoreError
from tccp.store import EventDraft, open_store
from tccp.store.schema import APPLICATION_ID, connect, connect_writer, migrate, migrations, take_over
from tests.store.support import node, prepare


def user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def test_a_new_file_is_ours_alone_and_synced_at_each_commit(database: Path) -> None:
    writing = connect_writer(database)

    assert database.stat().st_mode & 0o777 == 0o600
    assert Path(f"{database}-wal").stat().st_mode & 0o777 == 0o600
    assert writing.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert writing.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert writing.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    assert writing.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    assert user_version(writing) == len(migrations())
    writing.close()


@pytest.mark.parametrize("prepared", ["nothing", "zero bytes", "version 0"])
async def test_a_file_of_version_0_is_migrated(database: Path, prepared: str) -> None:
    if prepared == "zero bytes":
        database.touch()
    elif prepared == "version 0":
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
        connection.close()

    async with open_store(database) as store:
        await prepare(store, "a")
    async with open_store(database) as store:
        assert await store.list_nodes() == [node("a")]


def test_a_migration_keeps_what_was_there(database: Path) -> None:
    connection = connect_writer(database)
    connection.execute("INSERT INTO event (at_ms, kind, body) VALUES (1, 'start', x'')")
    next_one = "CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;\nINSERT INTO more SELECT seq FROM event;\n"

    migrate(connection, [*migrations(), next_one])

    assert connection.execute("SELECT id FROM more").fetchall() == [(1,)]
    assert user_version(connection) == len(migrations()) + 1
    connection.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(database: Path) -> None:
    connection = connect_writer(database)
    before = list(connection.iterdump())
    wrong = "CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;\nDROP TABLE meta;\nINSERT INTO nowhere VALUES (1);\n"

    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, [*migrations(), wrong])

    assert list(connection.iterdump()) == before
    assert user_version(connection) == len(migrations())
    assert not connection.in_transaction
    connection.close()


def test_two_who_open_a_new_file_at_once_migrate_it_once(database: Path) -> None:
    barrier = threading.Barrier(4)
    epochs: list[int] = []

    def open_one() -> None:
        barrier.wait()
        connection = connect_writer(database)
        epochs.append(take_over(connection))
        connection.close()

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(epochs) == [1, 2, 3, 4]


async def test_a_newer_database_is_refused_and_left_alone(database: Path) -> None:
    async with open_store(database):
        pass
    connection = connect(database)
    connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    connection.close()
    content = database.read_bytes()

    with pytest.raises(ConfigError, match="newer_database"):
        async with open_store(database):
            pass

    assert database.read_bytes() == content


async def test_the_database_of_another_program_is_refused_and_left_alone(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    content = database.read_bytes()

    with pytest.raises(ConfigError, match="foreign_database"):
        async with open_store(database):
            pass

    assert database.read_bytes() == content


async def test_what_is_no_database_is_refused_and_left_alone(database: Path) -> None:
    database.write_bytes(b"this is a text about databases\n" * 1_000)
    content = database.read_bytes()

    with pytest.raises(StoreError, match="damaged"):
        async with open_store(database):
            pass

    assert database.read_bytes() == content


async def test_a_damaged_database_is_refused(database: Path) -> None:
    async with open_store(database) as store:
        for _ in range(200):
            await store.append_event(EventDraft(1, "refuse", None, bytes(500)))
    whole = database.read_bytes()
    page = 4096

    refused = 0
    for number in range(1, len(whole) // page):
        database.write_bytes(whole[: number * page] + b"\xff" * page + whole[(number + 1) * page :])
        try:
            async with open_store(database):
                pass
        except StoreError as error:
            assert error.reason == "damaged"  # noqa: PT017 a page of the free list may be anything
            refused += 1

    assert refused >= len(whole) // page - 2
    database.write_bytes(whole[: len(whole) // 2 // page * page])
    with pytest.raises(StoreError, match="damaged"):
        async with open_store(database):
            pass


@pytest.mark.parametrize("where", ["no/such/folder/file.db", "."])
async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path, where: str) -> None:
    with pytest.raises(StoreError, match="cannot_open") as raised:
        async with open_store(tmp_path / where):
            pass

    assert str(tmp_path / where) in raised.value.detail
