"""A store and its published log in a folder, as a coordinator has them, and nothing else of a coordinator."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
from nacl.signing import SigningKey

from tccp.coordinator.log_entries import entry_of
from tccp.coordinator.log_opening import open_published_log
from tccp.coordinator.published_log import PublishedLog
from tccp.store import EventDraft, EventRecord, Store, open_store
from tccp.transparency.checkpoint import Checkpoint, verify_checkpoint
from tccp.transparency.note import NoteSigner
from tccp.transparency.receipt import VerifiedReceipt, verify_receipt
from tccp.transparency.tile import ENTRIES, decode_entries, tile_at
from tccp.transparency.tile_directory import TileDirectory

SALT_KEY = b"\x5a" * 32
SIGNER = NoteSigner("tc.example/log", SigningKey(b"\x11" * 32))


@asynccontextmanager
async def publishing(folder: Path) -> AsyncIterator[tuple[Store, PublishedLog]]:
    """Both are open, and the log is written."""
    async with (
        open_store(folder / "coordinator.db") as store,
        open_published_log(folder / "log", store, SIGNER, SALT_KEY) as log,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(log.run)
        yield store, log
        nursery.cancel_scope.cancel()


async def append(store: Store, count: int = 1, word: str = "one") -> int:
    """So many events; the place of the last."""
    seq = 0
    for number in range(count):
        seq = await store.append_event(
            EventDraft(1_000 + number, "refuse", None, b"\x81\xa6reason\xa3" + word.encode())
        )
    return seq


async def publish(folder: Path, count: int, word: str = "one") -> Checkpoint:
    """Open, append so many events, wait until they are in the log, close; the head."""
    async with publishing(folder) as (store, log):
        await log.included(await append(store, count, word))
        return log.head.checkpoint


def head_on_disk(folder: Path) -> Checkpoint:
    """What anybody who looks is shown."""
    note = TileDirectory(folder / "log").read_checkpoint()
    assert note is not None
    return verify_checkpoint(note, origin=SIGNER.key.name, log_key=SIGNER.key).checkpoint


def entries_on_disk(folder: Path) -> list[bytes]:
    """All entries under the head."""
    size, files = head_on_disk(folder).size, TileDirectory(folder / "log")
    tiles = [tile_at(ENTRIES, index, size) for index in range(-(-size // 256))]
    return [entry for tile in tiles for entry in decode_entries(tile, files.read_tile(tile))]


async def all_events(store: Store) -> list[EventRecord]:
    """Every event."""
    events: list[EventRecord] = []
    while page := await store.events(len(events)):
        events += page
    return events


async def check_that_all_is_told(folder: Path, store: Store) -> None:
    """Each event has its entry, in its place, once, and there is no other."""
    events = await all_events(store)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert entries_on_disk(folder) == [entry_of(event, SALT_KEY).entry for event in events]


def verified(receipt: bytes) -> VerifiedReceipt:
    """What a receipt of this log proves."""
    return verify_receipt(receipt, origin=SIGNER.key.name, log_key=SIGNER.key)


@contextmanager
def ends_with(kind: type[BaseException]) -> Iterator[None]:
    """Whatever ends in here, in one task or several, ends by this."""
    try:
        yield
    except kind:
        return
    except BaseExceptionGroup as group:
        _, others = group.split(kind)
        if others is not None:
            raise
        return
    raise AssertionError("it went on")
