"""Whoever watches sees every event once, in order, and keeps nobody waiting."""

from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import StoreError
from tccp.store import ConflictError, EventDraft, Store, open_store
from tccp.store.sqlite import WATCH_PAGE
from tests.store.support import node, prepare


async def test_a_watcher_sees_old_and_new_events_once_and_in_order(store: Store) -> None:
    old, new = WATCH_PAGE + 10, 500
    seen: list[int] = []

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        async for event in store.watch(5):
            seen.append(event.seq)
            if len(seen) == 1:
                task_status.started()
            if event.seq == old + new:
                return

    async def append(count: int) -> None:
        for _ in range(count):
            await store.append_event(EventDraft(1, "refuse"))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(append, old // 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        for _ in range(10):
            nursery.start_soon(append, new // 10)

    assert seen == list(range(6, old + new + 1))


async def test_a_watcher_who_does_not_read_keeps_nobody_waiting_and_misses_nothing(store: Store) -> None:
    watcher = store.watch(0)
    await store.append_event(EventDraft(1, "start"))
    first = await anext(watcher)

    for _ in range(3 * WATCH_PAGE):
        await store.append_event(EventDraft(1, "refuse"))

    rest = [(await anext(watcher)).seq for _ in range(3 * WATCH_PAGE)]
    assert [first.seq, *rest] == list(range(1, 3 * WATCH_PAGE + 2))


async def test_a_watcher_sees_nothing_of_a_refused_transaction(store: Store) -> None:
    await prepare(store, "a")
    watcher = store.watch(await store.last_seq())

    with pytest.raises(ConflictError):
        await store.import_nodes([(node("b"), b"rolled back"), (node("c", ek_of="a"), b"refused")])
    seq = await store.append_event(EventDraft(1, "start"))

    event = await anext(watcher)
    assert (event.seq, event.kind) == (seq, "start")


async def test_a_watcher_is_told_when_the_store_closes(database: Path) -> None:
    async with trio.open_nursery() as nursery, open_store(database) as store:

        @nursery.start_soon
        async def watch() -> None:
            with pytest.raises(StoreError, match="closed"):
                await anext(store.watch(0))

        await trio.testing.wait_all_tasks_blocked()


async def test_a_cancelled_watcher_goes_and_others_go_on(store: Store) -> None:
    with trio.move_on_after(0):
        await anext(store.watch(0))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            watcher = store.watch(0)

            @nursery.start_soon
            async def cancel() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            await anext(watcher)
    assert scope.cancelled_caught

    await store.append_event(EventDraft(1, "start"))
    assert (await anext(watcher)).seq == 1
