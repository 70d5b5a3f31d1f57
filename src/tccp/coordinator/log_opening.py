"""Opening the log: is it the one that this database knows, and does the database know all that it tells?

    database        log directory            then
    knows no log    there is none            a log begins
    as far on       as far on                it goes on
    further on      older, or gone           what it lacks is made again from the events: if it is what was signed, the
                                             same bytes; if not, nothing is signed
    older           further on               nothing is signed: the lost events cannot be made again
    of another      of another               nothing is signed

An entry follows from its event, and a signature from its text, so a log that was made again is not a second history.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from tccp import systemd
from tccp.coordinator.log_entries import entries_of
from tccp.coordinator.published_log import EVENTS_PER_COMMIT, HEAD, PublishedLog
from tccp.errors import ConfigError, StoreError
from tccp.merkle import leaf_hash
from tccp.store import Store
from tccp.transparency.checkpoint import Checkpoint, verify_checkpoint
from tccp.transparency.note import NoteSigner
from tccp.transparency.proof import TileHashes
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.tree_edge import TreeEdge
from tccp.transparency.writer import LogWriter

COMPARED_AT_START = 256  # entries with their events; the root is compared anyway
PREDECESSOR_S = 15.0
LOCK_PAUSE_S = 0.1
START_TIMEOUT_US = 60_000_000  # from each step on: systemd shall not give up on a long repair
ENTRY_TIMEOUT_US = 100  # a slow disk reads more

log = structlog.get_logger()


@asynccontextmanager
async def open_published_log(
    directory: Path, store: Store, signer: NoteSigner, salt_key: bytes
) -> AsyncIterator[PublishedLog]:
    """Open the log in *directory*, which only *store*'s coordinator writes; `PublishedLog.run` must be run.

    Raises:
        ConfigError: ``database_rolled_back``, ``database_forked``, ``log_forked``, ``log_damaged``: they do not belong
            together, and nothing was signed.
        StoreError: ``damaged``, ``locked``, ``disk_full``, ...
    """
    remembered = await store.meta(HEAD)
    signed = None
    if remembered is not None:
        signed = verify_checkpoint(remembered, origin=signer.key.name, log_key=signer.key).checkpoint
    # Tiles that are damaged are made again from all entries.
    systemd.notify(f"EXTEND_TIMEOUT_USEC={START_TIMEOUT_US + await store.last_seq() * ENTRY_TIMEOUT_US}")
    writer = await _open_when_free(directory, signer)
    try:
        await _compare(writer, store, salt_key)
        if signed is not None:
            await _catch_up(writer, store, salt_key, signed)
        published = PublishedLog(store, writer, salt_key)
        yield published
        with trio.CancelScope(shield=True), contextlib.suppress(StoreError):
            await published.remember()
    finally:
        writer.close()


async def _open_when_free(directory: Path, signer: NoteSigner) -> LogWriter:
    """A coordinator whose database we have just taken ends within a moment, and holds its log until then."""
    deadline = trio.current_time() + PREDECESSOR_S
    while True:
        try:
            return await trio.to_thread.run_sync(_open, directory, signer)
        except StoreError as problem:
            if problem.reason != "locked" or trio.current_time() > deadline:
                raise
        await trio.sleep(LOCK_PAUSE_S)


def _open(directory: Path, signer: NoteSigner) -> LogWriter:
    if TileDirectory(directory).read_checkpoint() is not None:
        return LogWriter.open(directory, signer, signed=None)
    try:
        return LogWriter.create(directory, signer)
    except StoreError as problem:
        if problem.reason != "log_exists":
            raise
        detail = f"{directory} has tiles and no checkpoint"
        hint = "Put its newest copy back, or move it away: it is made again from the database."
        raise ConfigError("log_damaged", detail, hint=hint) from None


async def _compare(writer: LogWriter, store: Store, salt_key: bytes) -> None:
    """Does the database hold all that the log tells, and the same?"""
    last_seq = await store.last_seq()
    hint = (
        "The database is an older copy than the log. Put its newest copy back. To go on from this one would be a second"
        " history of what was shown already, and is never signed; see docs/OPERATIONS.md, 'Back up, and restore'."
    )
    if last_seq < writer.size:
        detail = f"{last_seq} events, and the log has {writer.size} entries"
        raise ConfigError("database_rolled_back", detail, hint=hint)
    since = max(0, writer.size - COMPARED_AT_START)
    events = await store.events(since, writer.size - since) if writer.size else []
    try:
        await trio.to_thread.run_sync(writer.append, since, entries_of(events, salt_key))
    except StoreError as problem:
        if problem.reason == "entry_differs":
            raise ConfigError("database_forked", problem.detail, hint=hint) from None
        raise


async def _catch_up(writer: LogWriter, store: Store, salt_key: bytes, signed: Checkpoint) -> None:
    """Bring the log to where it was when *signed* was remembered, or to refuse it.

    The tree is made in memory first: no checkpoint is signed before the root is the one that was signed then.
    """
    had = writer.size
    if had < signed.size:
        edge = await trio.to_thread.run_sync(TreeEdge.load, writer.files.read_tile, had)
        async for _, entries in _missing(store, salt_key, had, signed.size):
            edge.extend(map(leaf_hash, entries))
        root = edge.root()
    else:
        hashes = TileHashes(writer.files.read_tile, had)
        root = await trio.to_thread.run_sync(hashes.range_hash, 0, signed.size)
    if root != signed.root:
        detail = f"another log was signed when it had {signed.size} entries"
        hint = f"Put the newest copies of the database and of {writer.files.directory} back."
        raise ConfigError("log_forked", detail, hint=hint)
    if had < signed.size:
        log.warning("log_made_again", entries=signed.size - had, had=had)
        await store.check_fence()
        async for first, entries in _missing(store, salt_key, had, signed.size):
            await trio.to_thread.run_sync(writer.append, first, entries)


async def _missing(store: Store, salt_key: bytes, since: int, until: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The entries from index *since* to before *until*, in parts, each with the index of its first."""
    while since < until:
        systemd.notify(f"EXTEND_TIMEOUT_USEC={START_TIMEOUT_US}", f"STATUS=making the log again: {since} of {until}")
        events = await store.events(since, min(EVENTS_PER_COMMIT, until - since))
        if not events:
            raise ConfigError("database_rolled_back", f"{since} events, and {until} entries were signed")
        yield since, await trio.to_thread.run_sync(entries_of, events, salt_key)
        since += len(events)
