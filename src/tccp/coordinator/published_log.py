"""The coordinator's log as others see it: every event of the store becomes an entry under a signed checkpoint.

    store: event N  -->  entry N-1  -->  tiles, checkpoint  -->  whoever waits for `included` goes on
                           (a thread; whatever has come while the last commit was written is the next one)

The event is durable first, its entry follows. So a crash between the two leaves events without entries, never an entry
without its event; the next start goes on from `LogWriter.size`. What the log was when it was last written is remembered
in the database, under the fence, so that `tccp.coordinator.log_opening` finds a copy of either that is older.
"""

import math
from collections.abc import Mapping, Sequence

import structlog
import trio

from tccp.coordinator.batching import Waiting, WaitingInOrder, next_batch
from tccp.coordinator.log_entries import EventEntry, entry_of
from tccp.errors import HostError, LogError, StoreError
from tccp.store import EventRecord, Store
from tccp.transparency.checkpoint import VerifiedCheckpoint
from tccp.transparency.proof import TileHashes, prove_inclusion, verify_inclusion
from tccp.transparency.receipt import Receipt, encode_receipt
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.writer import LogWriter

HEAD = "log_head"  # under which the store remembers the last checkpoint
EVENTS_PER_COMMIT = 4_096
COMMIT_EVERY_S = 0.05  # a commit costs milliseconds however little is in it; one after a quiet moment starts at once
REMEMBER_EVERY_S = 1.0
RETRY_S = 1.0
PASSING = frozenset({"disk_full", "io_error", "read_only", "locked"})  # after these the same may succeed
RECEIPTS_AT_ONCE = 256
RECEIPTS_WAITING_MAX = 65_536

Receipts = dict[int, bytes | StoreError]

log = structlog.get_logger()


class PublishedLog:
    """The log of a store's events; `run` must be running. `tccp.coordinator.log_opening` makes one.

    Args:
        writer: Used by this object alone from now on.
        salt_key: 32 bytes, see `tccp.transparency.entry.log_salt`.
    """

    def __init__(self, store: Store, writer: LogWriter, salt_key: bytes) -> None:
        self._store, self._writer, self._salt_key = store, writer, salt_key
        self._included: WaitingInOrder[VerifiedCheckpoint] = WaitingInOrder()
        self._receipts: WaitingInOrder[bytes] = WaitingInOrder()
        self._ask, self._asked = trio.open_memory_channel[Waiting[int, bytes]](RECEIPTS_WAITING_MAX)
        self._remembered: VerifiedCheckpoint | None = None
        self._remember_at = self._commit_at = -math.inf
        self._hurried = trio.Event()
        self.head = writer.head
        self.committed_at = trio.current_time()  # when `head` was signed, or this run began
        self.problem: StoreError | None = None  # why it cannot be written just now

    @property
    def size(self) -> int:
        """How many entries are durable under `head`."""
        return self.head.checkpoint.size

    @property
    def files(self) -> TileDirectory:
        """Checkpoint and tiles, to be read by anybody at any time."""
        return self._writer.files

    async def included(self, seq: int) -> None:
        """Return when the entry of event *seq*, which has happened, is durable under a signed checkpoint.

        Raises:
            StoreError: The log cannot be written now. The event stands, and its entry will follow.
        """
        if seq > self.size:
            await self._included.add(seq).outcome()

    def hurry(self) -> None:
        """What has happened is to be written at once: a guest stands still until it is."""
        self._hurried.set()

    async def receipt(self, seq: int) -> bytes:
        """A receipt of event *seq*, which has happened, with its details, as soon as it is in the log.

        Raises:
            StoreError: as `included`; ``no_event``; the log cannot be read.
            HostError: ``overloaded``.
        """
        if seq > self.size:
            return await self._receipts.add(seq).outcome()
        waiting: Waiting[int, bytes] = Waiting(seq)
        self._ask_for(waiting)
        return await waiting.outcome()

    async def run(self) -> None:
        """Write the log, until cancelled.

        Raises:
            FencedError: Another coordinator has the database.
            StoreError: The log is damaged, or what was written of it is unknown: only a new start can tell.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._answer_for_receipts)

    async def remember(self) -> None:
        """Have the database know what the log is.

        It may lag behind: what a restored log lacks beyond that is made again from the same events, and is the same.
        """
        if self._remembered is not self.head:
            head = self.head
            await self._store.set_meta(HEAD, head.note.encode())
            self._remembered = head
            if await self._store.last_seq() <= self.size:  # else the next commit says whether all is well again
                self.problem = None
        self._remember_at = trio.current_time() + REMEMBER_EVERY_S

    # ---- writing

    async def _write(self) -> None:
        while True:
            try:
                await self._go_on()
            except StoreError as problem:
                log.error("log_not_written", reason=problem.reason, detail=problem.detail)
                self.problem = problem
                self._included.fail(problem)
                self._receipts.fail(problem)
                if problem.reason not in PASSING or not self._writer.is_open:
                    raise
                await trio.sleep(RETRY_S)

    async def _go_on(self) -> None:
        if trio.current_time() >= self._remember_at:
            await self.remember()
        with trio.move_on_at(self._remember_at if self._remembered is not self.head else math.inf):
            await self._store.wait_for_events(self.size)
            with trio.move_on_at(self._commit_at):
                await self._hurried.wait()
            self._hurried = trio.Event()
            events = await self._store.events(self.size, EVENTS_PER_COMMIT)
            self._commit_at = trio.current_time() + COMMIT_EVERY_S
            with trio.CancelScope(shield=True):
                await self._commit(events)

    async def _commit(self, events: Sequence[EventRecord]) -> None:
        """The fence is asked last before it: whoever has lost the database signs nothing."""
        first = events[0].seq - 1
        assert first == self.size, f"event {first + 1} for a log of {self.size}"
        wanted = self._receipts.up_to(events[-1].seq)
        await self._store.check_fence()
        self.head, receipts = await trio.to_thread.run_sync(self._append, first, events, wanted)
        self.committed_at, self.problem = trio.current_time(), None
        for one in self._included.pop(self.size):
            one.settle(self.head)
        for another in self._receipts.pop(self.size):
            if another.request in receipts:
                another.settle(receipts[another.request])
            else:  # asked for while the commit was written
                self._ask_for(another)

    def _append(
        self, first: int, events: Sequence[EventRecord], wanted: frozenset[int]
    ) -> tuple[VerifiedCheckpoint, Receipts]:
        made = [entry_of(event, self._salt_key) for event in events]
        head = self._writer.append(first, [each.entry for each in made])
        wanted_of = {first + 1 + at: each for at, each in enumerate(made) if first + 1 + at in wanted}
        return head, self._prove(wanted_of, head)

    # ---- receipts

    def _ask_for(self, waiting: Waiting[int, bytes]) -> None:
        try:
            self._ask.send_nowait(waiting)
        except trio.WouldBlock:
            waiting.settle(HostError("overloaded", "too many wait for receipts"))

    async def _answer_for_receipts(self) -> None:
        while True:
            batch = await next_batch(self._asked, RECEIPTS_AT_ONCE)
            receipts: Receipts
            try:
                events = await self._store.events_at([waiting.request for waiting in batch])
                receipts = await trio.to_thread.run_sync(self._receipts_of, events, self.head)
            except StoreError as problem:
                receipts = {waiting.request: problem for waiting in batch}
            for waiting in batch:
                waiting.settle(receipts.get(waiting.request) or StoreError("no_event", str(waiting.request)))

    def _receipts_of(self, events: Sequence[EventRecord], head: VerifiedCheckpoint) -> Receipts:
        return self._prove({event.seq: entry_of(event, self._salt_key) for event in events}, head)

    def _prove(self, entries: Mapping[int, EventEntry], head: VerifiedCheckpoint) -> Receipts:
        hashes, note = TileHashes(self.files.read_tile, head.checkpoint.size), head.note.encode()
        receipts: Receipts = {}
        for seq, made in entries.items():
            try:
                path = prove_inclusion(hashes, seq - 1)
                verify_inclusion(made.entry, seq - 1, size=hashes.size, root=head.checkpoint.root, path=path)
                receipt = Receipt(made.entry, seq - 1, made.details, made.salt, tuple(path), note)
                receipts[seq] = encode_receipt(receipt)
            except LogError as problem:
                receipts[seq] = StoreError("damaged", f"the log: {problem}")
            except StoreError as problem:
                receipts[seq] = problem
        return receipts
