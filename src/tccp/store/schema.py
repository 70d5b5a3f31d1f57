"""Opening the database file: pragmas, what it is, whether it is whole, and its migrations.

Migrations are numbered SQL files; number n leads from user_version n-1 to n, in one transaction. A released file is
never edited: what comes next is another file.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from tccp.errors import ConfigError, StoreError

APPLICATION_ID = 0x74636370  # "tccp"
BUSY_TIMEOUT_S = 5.0
SWITCH_AGAIN_S = 0.01
CACHE_KIB = 65_536
STATEMENTS_CACHED = 128
LOG_PAGES = 4_000  # 16 MiB of log between checkpoints, each of which syncs twice
LOG_BYTES_KEPT = 64 << 20  # what a burst left is given back


def migrations() -> list[str]:
    """The SQL of every migration, in order."""
    folder = resources.files("tccp.store") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    for number, file in enumerate(files, start=1):
        assert file.name.startswith(f"{number:04}_"), f"migrations are numbered without holes: {file.name}"
    return [file.read_text("utf-8") for file in files]


def connect(path: Path) -> sqlite3.Connection:
    """A connection to *path* in autocommit mode, for use by one thread at a time.

    Raises:
        sqlite3.Error: It cannot be opened, or is no database.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def connect_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes: the file made or checked, migrated, write-ahead logging, every commit synced.

    Raises:
        ConfigError: Another program's database, or one of a newer tccp.
        StoreError: The file is damaged.
        sqlite3.Error: It cannot be opened or read.
    """
    _create_private(path)
    connection = connect(path)
    try:
        _check_application(connection, path)
        _check_whole(connection, path)
        _log_ahead(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_KEPT}")
        connection.execute("PRAGMA foreign_keys = OFF")  # a migration may rebuild a table that others refer to
        migrate(connection, migrations())
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def take_over(connection: sqlite3.Connection) -> int:
    """Advance the fence: whoever opened the database before can write no more.

    Returns:
        The epoch that every write of this process carries.
    """
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE fence SET epoch = epoch + 1")
    epoch = int(connection.execute("SELECT epoch FROM fence").fetchone()[0])
    connection.execute("COMMIT")
    return epoch


def migrate(connection: sqlite3.Connection, scripts: list[str]) -> None:
    """Run those of *scripts* that the database has not seen, each in a transaction of its own.

    Raises:
        sqlite3.Error: A script failed; the database is as it was before that script.
    """
    while True:
        # The version is read under the write lock: two processes may open a new file at once.
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _user_version(connection)
            if version >= len(scripts):
                connection.execute("ROLLBACK")
                return
            for statement in _statements(scripts[version]):
                connection.execute(statement)
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
            assert broken is None, f"migration {version + 1} breaks a reference: {broken}"
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _create_private(path: Path) -> None:
    """Make the file, readable by us alone; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError("cannot_open", f"{path}: {error.strerror}") from error


def _check_application(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN")  # one moment: another process may be migrating a new file
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    version, known = _user_version(connection), len(migrations())
    connection.execute("COMMIT")
    if application != APPLICATION_ID and (application != 0 or tables != 0):
        raise ConfigError("foreign_database", f"{path}: a database, but not one of tccp")
    if version > known:
        raise ConfigError(
            "newer_database",
            f"{path}: schema version {version}, this tccp knows {known}",
            hint="Start the newer tccp again; there is no way back from a migration but a backup.",
        )


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError("damaged", f"{path}: {found}", hint="Restore the database from a backup.")


def _log_ahead(connection: sqlite3.Connection, path: Path) -> None:
    mode = _switch_to_log_ahead(connection)
    if mode != "wal":
        raise ConfigError("no_write_ahead_log", f"{path}: this file system gives journal mode {mode}")


def _switch_to_log_ahead(connection: sqlite3.Connection) -> str:
    """The journal mode after that. SQLite does not wait for others who switch a new file at the same time, so we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(SWITCH_AGAIN_S)


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """The statements of *script*; unlike executescript(), this leaves our transaction open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip(), f"a statement without end: {statement[:60]}"
