"""The coordinator's log as others see it: every event of the store becomes an entry under a signed checkpoint.

    store: event N  -->  entry N-1  -->  tiles, checkpoint  -->  whoever waits for `included` goes on
                           (a thread; whatever has come while the last commit was written is the next one)

The event is durable first, its entry follows. So a crash between the two leaves events without entries, never an entry
without its event; the next start goes on from `LogWriter.size`. What the log was when it was last written is remembered
in the database, under the fence: a copy of either that is older than the other is found, and nothing is signed then.
"""

import heapq
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from tccp.coordinator.batching import Waiting, batches
from tccp.coordinator.log_entries import entries_of, entry_of
from tccp.errors import ConfigError, HostError, LogError, StoreError
from tccp.store import EventRecord, Store
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint, verify_checkpoint
from tccp.transparency.note import NoteSigner
from tccp.transparency.proof import TileHashes, prove_inclusion, verify_inclusion
from tccp.transparency.receipt import Receipt, encode_receipt
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.writer import LogWriter

HEAD = "log_head"  # under which the store remembers the last checkpoint
EVENTS_PER_COMMIT = 4_096
RECEIPTS_AT_ONCE = 256
RECEIPTS_WAITING_MAX = 65_536
COMPARED_AT_START = 256
RETRY_S = 1.0
PREDECESSOR_S = 15.0
LOCK_PAUSE_S = 0.1
PASSING = frozenset({"disk_full", "io_error", "read_only", "locked"})  # after these the same may succeed

log = structlog.get_logger()


class PublishedLog:
    """The log of a store's events; `run` must be running. `open_published_log` makes one.

    Args:
        writer: Used by this object alone from now on.
        salt_key: 32 bytes, see `tccp.transparency.entry.log_salt`.
    """

    def __init__(self, store: Store, writer: LogWriter, salt_key: bytes) -> None:
        self._store, self._writer, self._salt_key = store, writer, salt_key
        self._remembered: VerifiedCheckpoint | None = None
        self._waiting: list[tuple[int, int, Waiting[int, VerifiedCheckpoint]]] = []
        self._order = itertools.count()
        self._ask, self._asked = trio.open_memory_channel[Waiting[int, bytes]](RECEIPTS_WAITING_MAX)
        self.head = writer.head

    @property
    def size(self) -> int:
        """How many entries are durable under `head`."""
        return self.head.checkpoint.size

    @property
    def files(self) -> TileDirectory:
        """Checkpoint and tiles, to be read by anybody at any time."""
        return self._writer.files

    async def included(self, seq: int) -> None:
        """Return when the entry of event *seq* is durable under a signed checkpoint.

        Raises:
            StoreError: The log cannot be written now. The event stands, and its entry will follow.
        """
        if seq > self.size:
            waiting: Waiting[int, VerifiedCheckpoint] = Waiting(seq)
            heapq.heappush(self._waiting, (seq, next(self._order), waiting))
            await waiting.outcome()

    async def receipt(self, seq: int) -> bytes:
        """A receipt of event *seq* with its details (`tccp.transparency.receipt`), as soon as it is in the log.

        Raises:
            StoreError: as `included`; ``no_event``; or the log cannot be read.
            HostError: ``overloaded``.
        """
        await self.included(seq)
        waiting: Waiting[int, bytes] = Waiting(seq)
        try:
            self._ask.send_nowait(waiting)
        except trio.WouldBlock:
            raise HostError("overloaded", "too many wait for receipts") from None
        return await waiting.outcome()

    async def run(self) -> None:
        """Write the log, until cancelled.

        Raises:
            FencedError: Another coordinator has the database.
            StoreError: The log is damaged, or what was written of it is unknown: only a new start can tell.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._make_receipts)

    # ---- writing

    async def _write(self) -> None:
        while True:
            try:
                await self._remember()
                if events := await self._store.events(self.size, EVENTS_PER_COMMIT):
                    await self._append(events)
                else:
                    await self._store.wait_for_events(self.size)
            except StoreError as problem:
                log.error("log_not_written", reason=problem.reason, detail=problem.detail)
                self._settle(problem)
                if problem.reason not in PASSING or not self._writer.is_open:
                    raise
                await trio.sleep(RETRY_S)

    async def _append(self, events: Sequence[EventRecord]) -> None:
        """One commit. The fence is asked last before it: whoever has lost the database signs nothing."""
        first = events[0].seq - 1
        assert first == self.size, f"event {first + 1} for a log of {self.size}"
        entries = await trio.to_thread.run_sync(entries_of, events, self._salt_key)
        await self._store.check_fence()
        self.head = await trio.to_thread.run_sync(self._writer.append, first, entries)
        self._settle(None)

    async def _remember(self) -> None:
        """Have the database know what the log is; it may lag by one commit, which a restored log cannot use: what it
        lacks is made again from the same events, and is the same.
        """
        if self._remembered is not self.head:
            head = self.head
            await self._store.set_meta(HEAD, head.note.encode())
            self._remembered = head

    def _settle(self, problem: StoreError | None) -> None:
        """Wake those whose entries are in; all, when there is a problem."""
        while self._waiting and (problem is not None or self._waiting[0][0] <= self.size):
            _, _, waiting = heapq.heappop(self._waiting)
            if problem is None:
                waiting.settle(self.head)
            else:
                waiting.settle(StoreError(problem.reason, problem.detail, hint=problem.hint))

    # ---- receipts

    async def _make_receipts(self) -> None:
        async for batch in batches(self._asked, RECEIPTS_AT_ONCE):
            try:
                made = await self._receipts_of([waiting.request for waiting in batch])
            except StoreError as problem:
                for waiting in batch:
                    waiting.settle(StoreError(problem.reason, problem.detail))
                continue
            for waiting in batch:
                waiting.settle(made.get(waiting.request) or StoreError("no_event", str(waiting.request)))

    async def _receipts_of(self, seqs: list[int]) -> dict[int, bytes]:
        head = self.head
        events = await self._store.events_at(seqs)
        return await trio.to_thread.run_sync(self._prove, events, head)

    def _prove(self, events: Sequence[EventRecord], head: VerifiedCheckpoint) -> dict[int, bytes]:
        hashes = TileHashes(self.files.read_tile, head.checkpoint.size)
        note = head.note.encode()
        receipts = {}
        try:
            for event in events:
                made, index = entry_of(event, self._salt_key), event.seq - 1
                path = prove_inclusion(hashes, index)
                verify_inclusion(made.entry, index, size=hashes.size, root=head.checkpoint.root, path=path)
                receipts[event.seq] = encode_receipt(
                    Receipt(made.entry, index, made.details, made.salt, tuple(path), note)
                )
        except LogError as problem:
            raise StoreError("damaged", f"the log: {problem}") from None
        return receipts


# ---- opening


@asynccontextmanager
async def open_published_log(
    directory: Path, store: Store, signer: NoteSigner, salt_key: bytes
) -> AsyncIterator[PublishedLog]:
    """Open the log in *directory*, or begin it when neither it nor *store* knows of one.

    Raises:
        ConfigError: ``log_missing``, ``log_rolled_back``, ``log_forked``: the directory is older than the database, or
            another log's; ``database_rolled_back``, ``database_forked``: the database is. Nothing was signed.
        StoreError: ``damaged``, ``locked``, ``disk_full``, ...
    """
    remembered = await store.meta(HEAD)
    signed = None
    if remembered is not None:
        signed = verify_checkpoint(remembered, origin=signer.key.name, log_key=signer.key).checkpoint
    writer = await _open_when_free(directory, signer, signed)
    try:
        await _compare(writer, store, salt_key)
        yield PublishedLog(store, writer, salt_key)
    finally:
        writer.close()


async def _open_when_free(directory: Path, signer: NoteSigner, signed: Checkpoint | None) -> LogWriter:
    """A coordinator whose database we have just taken ends within a moment, and holds its log until then."""
    deadline = trio.current_time() + PREDECESSOR_S
    while True:
        try:
            return await trio.to_thread.run_sync(_open, directory, signer, signed)
        except StoreError as problem:
            if problem.reason != "locked" or trio.current_time() > deadline:
                raise
        await trio.sleep(LOCK_PAUSE_S)


def _open(directory: Path, signer: NoteSigner, signed: Checkpoint | None) -> LogWriter:
    files = TileDirectory(directory)
    if signed is None and files.read_checkpoint() is None:
        return LogWriter.create(directory, signer)
    newest = f"Put the newest copy of {directory} back."
    try:
        return LogWriter.open(directory, signer, signed=signed)
    except StoreError as problem:
        match problem.reason:
            case "no_checkpoint":
                raise ConfigError("log_missing", problem.detail, hint=newest) from None
            case "rolled_back":
                detail = f"{directory} is an older copy: {problem.detail}"
                raise ConfigError("log_rolled_back", detail, hint=newest) from None
            case "forked":
                hint = f"{newest} What is there now was written by another coordinator, or for another database."
                raise ConfigError("log_forked", problem.detail, hint=hint) from None
        raise


async def _compare(writer: LogWriter, store: Store, salt_key: bytes) -> None:
    """Does the database hold all that the log tells, and the same?"""
    last_seq = await store.last_seq()
    hint = (
        "The database is an older copy than the log. Put its newest copy back. To go on from this one would be a second"
        " history of what was shown already, and is never signed; see OPERATIONS, 'Restoring'."
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
