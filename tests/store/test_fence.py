"""A second coordinator that opens the database takes it over."""

import sqlite3
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.model import NodeName
from tccp.store import EventDraft, FencedError, open_store
from tccp.store.schema import connect_writer, take_over
from tccp.store.transactions import append_event
from tccp.store.writer import GroupWriter
from tests.store.support import lease, lease_id, node, policy, prepare, renew, renewal_of

A = NodeName("a")


async def test_the_first_coordinator_can_write_nothing_once_a_second_one_has_opened(database: Path) -> None:
    async with open_store(database) as first:
        await prepare(first, "a")
        await first.admit(lease("a", 1))
        async with open_store(database) as second:
            assert second.epoch == first.epoch + 1
            before = await second.events(), await second.list_nodes(), await second.open_leases()

            attempts = [
                lambda: first.append_event(EventDraft(9_000, "refuse")),
                lambda: first.enrol_node(node("b")),
                lambda: first.import_nodes([(node("b"), b"")]),
                lambda: first.set_node_policy(A, "other", 9_000),
                lambda: first.revoke_node(A, "reason", 9_000),
                lambda: first.reinstate_node(A, 9_000),
                lambda: first.remove_node(A, 9_000),
                lambda: first.add_policy(policy(version=2)),
                lambda: first.admit(lease("a", 2)),
                lambda: first.renew_all([renewal_of(lease("a", 1), 9_000)]),
                lambda: first.end_lease(lease_id(1), "reason", 9_000),
                lambda: first.lapse_leases(1 << 60),
                lambda: first.set_meta("key", b"value"),
            ]
            for attempt in attempts:
                with pytest.raises(FencedError, match="fenced"):
                    await attempt()

            assert (await second.events(), await second.list_nodes(), await second.open_leases()) == before
            assert await second.meta("key") is None
            await second.append_event(EventDraft(9_000, "start"))


async def test_a_renewal_alone_finds_the_fence(database: Path) -> None:
    async with open_store(database) as first:
        await prepare(first, "a")
        await first.admit(lease("a", 1))
        async with open_store(database) as second:
            with pytest.raises(FencedError):
                await renew(first, renewal_of(lease("a", 1), 9_000))

            assert await second.open_lease(A) == lease("a", 1)


async def test_a_fence_moved_in_the_midst_of_work_lets_no_later_write_through(database: Path) -> None:
    acknowledged: list[int] = []

    async with open_store(database) as first:

        async def write_until_fenced(finished: trio.Event) -> None:
            try:
                while True:
                    acknowledged.append(await first.append_event(EventDraft(1, "refuse")))
            except FencedError:
                finished.set()

        events = [trio.Event() for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(write_until_fenced, event)
            while len(acknowledged) < 200:
                await first.append_event(EventDraft(1, "refuse"))
            async with open_store(database) as second:
                at_takeover = await second.last_seq()
                for event in events:
                    await event.wait()
                assert await second.last_seq() == at_takeover

    assert max(acknowledged) <= at_takeover


class _UnfencedWriter(GroupWriter):
    def _compare_fence(self) -> None:
        pass


async def test_control_without_the_fence_both_coordinators_write(database: Path) -> None:
    writers = []
    for _ in range(2):
        connection = connect_writer(database)
        writers.append(_UnfencedWriter(connection, take_over(connection), lambda: None))

    places = [await writer.run(append_event, EventDraft(1, "start")) for writer in writers]

    assert places == [1, 2]
    for writer in writers:
        await writer.aclose()


async def test_a_watcher_of_a_fenced_store_learns_of_it(database: Path) -> None:
    async with open_store(database) as first, open_store(database), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def watch() -> None:
            with pytest.raises(FencedError):
                await anext(first.watch(0))

        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(FencedError):
            await first.append_event(EventDraft(1, "refuse"))


async def test_each_opening_has_a_greater_epoch(database: Path) -> None:
    epochs = []
    for _ in range(3):
        async with open_store(database) as store:
            epochs.append(store.epoch)

    assert epochs == [1, 2, 3]
    connection = sqlite3.connect(database)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO fence (id, epoch) VALUES (2, 1)")
    connection.close()
