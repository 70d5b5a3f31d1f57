"""A program for test_disk: what the store does when it cannot write, and when it can again.

python -m tests.store.filling full FOLDER     in a small file system of its own, mounted on FOLDER
python -m tests.store.filling limit FOLDER    with a limit on the size of files, so that writes fail with EFBIG
"""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tccp.errors import StoreError
from tccp.model import NodeName
from tccp.store import EventDraft, Store, open_store
from tests.store.support import lease, node, prepare, renew, renewal_of

TASKS = 8
BODY = 20_000


async def fill(store: Store, reason: str) -> dict[int, bytes]:
    """Append events from several tasks until each has failed with *reason*; what was acknowledged."""
    acknowledged: dict[int, bytes] = {}
    reasons: list[str] = []

    async def append(task: int) -> None:
        for number in range(10_000):
            body = f"{task} {number}".encode().ljust(BODY)
            try:
                acknowledged[await store.append_event(EventDraft(1, "refuse", None, body))] = body
            except StoreError as error:
                reasons.append(error.reason)
                return

    async with trio.open_nursery() as nursery:
        for task in range(TASKS):
            nursery.start_soon(append, task)
    assert reasons == [reason] * TASKS
    return acknowledged


async def everything(store: Store, since_seq: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while page := await store.events(max([since_seq, *found]), 100):
        found |= {event.seq: event.body for event in page}
    return found


async def fill_and_recover(database: Path, reason: str, make_room: Callable[[], None]) -> None:
    async with open_store(database) as store:
        await prepare(store, "a")
        await store.admit(lease("a", 1))
        start = await store.last_seq()

        acknowledged = await fill(store, reason)

        # What was acknowledged is there, and nothing else; reading goes on.
        assert await everything(store, start) == acknowledged
        assert sorted(acknowledged) == list(range(start + 1, start + len(acknowledged) + 1))
        assert await store.node_by_name(NodeName("a")) == node("a")

        make_room()

        assert await store.append_event(EventDraft(1, "start")) == start + len(acknowledged) + 1
        await renew(store, renewal_of(lease("a", 1), 9_000))
    async with open_store(database) as store:
        assert (await store.open_leases())[0].renewed_ms == 9_000
        assert await store.last_seq() == start + len(acknowledged) + 1
    sys.stdout.write(f"{len(acknowledged)} acknowledged\n")


@contextmanager
def room_taken(folder: Path) -> Iterator[Callable[[], None]]:
    ballast = folder / "ballast"
    # More than what is left for the write-ahead log, so that folding that into the database fits afterwards.
    ballast.write_bytes(bytes(5 << 20))
    yield ballast.unlink


@contextmanager
def size_limited() -> Iterator[Callable[[], None]]:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def main(how: str, folder: Path) -> None:
    if how == "full":
        assert os.path.ismount(folder)
        with room_taken(folder) as make_room:
            trio.run(fill_and_recover, folder / "coordinator.db", "disk_full", make_room)
    else:
        with size_limited() as make_room:
            trio.run(fill_and_recover, folder / "coordinator.db", "io_error", make_room)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
