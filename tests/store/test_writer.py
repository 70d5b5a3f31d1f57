"""Many transactions, one fsync: each is whole or nothing, whatever happens to its neighbours."""

import sqlite3
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import StoreError
from tccp.model import NodeName
from tccp.store import ConflictError, EventDraft, Store, open_store, schema
from tccp.store.renewal import BATCH_SIZES
from tccp.store.schema import connect, connect_writer, take_over
from tccp.store.writer import GroupWriter
from tests.store.support import lease, node, policy, prepare, renew, renewal_of

A = NodeName("a")
INSERT = "INSERT INTO event (at_ms, kind, body) VALUES (?, 'refuse', x'')"


def write_then_fail(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(INSERT, (number,))
    raise ConflictError("made_up", str(number))


def write(connection: sqlite3.Connection, number: int) -> int:
    connection.execute(INSERT, (number,))
    return number


def written(database: Path) -> list[tuple[int, int]]:
    connection = connect(database)
    rows = connection.execute("SELECT seq, at_ms FROM event ORDER BY seq").fetchall()
    connection.close()
    return rows


async def a_writer(database: Path) -> GroupWriter:
    connection = connect_writer(database)
    return GroupWriter(connection, take_over(connection), lambda: None)


class BlockedDatabase:
    """Holds the write lock, so that whatever is asked of a store meanwhile becomes one group."""

    def __init__(self, database: Path) -> None:
        self._connection = connect(database)

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


async def test_a_transaction_that_fails_takes_nothing_but_itself_along(database: Path) -> None:
    writer = await a_writer(database)
    results: dict[int, object] = {}

    async def one(number: int) -> None:
        try:
            results[number] = await writer.run(write_then_fail if number % 3 == 0 else write, number)
        except ConflictError as error:
            results[number] = error.detail

    async with trio.open_nursery() as nursery:
        with BlockedDatabase(database):
            for number in range(60):
                nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
    await writer.aclose()

    assert results == {number: str(number) if number % 3 == 0 else number for number in range(60)}
    rows = written(database)
    assert sorted(number for _, number in rows) == [number for number in range(60) if number % 3]
    assert [seq for seq, _ in rows] == list(range(1, 41))


def test_control_without_a_savepoint_the_failed_half_stays(database: Path) -> None:
    connection = connect_writer(database)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConflictError):
        write_then_fail(connection, 3)
    connection.execute("COMMIT")
    connection.close()

    assert written(database) == [(1, 3)]


async def test_a_bug_in_a_transaction_reaches_the_task_that_asked_for_it(database: Path) -> None:
    writer = await a_writer(database)

    def bug(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, (1,))
        raise KeyError("bug")

    def breach(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO event (seq, at_ms, kind, body) VALUES (NULL, NULL, NULL, NULL)")

    with pytest.raises(KeyError, match="bug"):
        await writer.run(bug)
    with pytest.raises(sqlite3.IntegrityError):
        await writer.run(breach)

    assert await writer.run(write, 7) == 7
    await writer.aclose()
    assert written(database) == [(1, 7)]


async def test_a_cancelled_task_goes_at_once_and_the_writer_goes_on(database: Path) -> None:
    async with open_store(database) as store:
        await prepare(store, "a")
        await store.admit(lease("a", 1))
        with BlockedDatabase(database):
            with trio.move_on_after(0.01) as first:
                await store.append_event(EventDraft(1, "refuse", None, b"may have happened"))
            with trio.move_on_after(0.01) as second:
                await renew(store, renewal_of(lease("a", 1), 9_000))
        assert first.cancelled_caught
        assert second.cancelled_caught

        await store.append_event(EventDraft(1, "refuse", None, b"happened"))

        bodies = [event.body for event in await store.events(since_seq=3)]
        assert bodies == [b"may have happened", b"happened"]


async def test_a_task_cancelled_beforehand_writes_nothing(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.append_event(EventDraft(1, "refuse"))

    assert scope.cancelled_caught
    assert await store.last_seq() == 0


async def test_closing_finishes_what_was_asked_for_and_refuses_the_rest(database: Path) -> None:
    acknowledged: list[int] = []

    async with trio.open_nursery() as nursery:
        async with open_store(database) as store:

            async def append() -> None:
                acknowledged.append(await store.append_event(EventDraft(1, "refuse")))

            with BlockedDatabase(database):
                for _ in range(50):
                    nursery.start_soon(append)
                await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(StoreError, match="closed"):
            await store.append_event(EventDraft(1, "refuse"))
        with pytest.raises(StoreError, match="closed"):
            await store.node_by_name(A)
        with pytest.raises(StoreError, match="closed"):
            await store.events()

    assert sorted(acknowledged) == list(range(1, 51))
    assert not Path(f"{database}-wal").exists()
    assert len(written(database)) == 50


async def test_a_database_held_by_somebody_else_is_named_and_tried_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.01)
    async with open_store(database) as store:
        with BlockedDatabase(database), pytest.raises(StoreError, match="locked") as raised:
            await store.append_event(EventDraft(1, "refuse"))
        assert raised.value.hint

        assert await store.append_event(EventDraft(1, "refuse")) == 1


async def test_a_revocation_beats_the_renewals_and_admissions_that_come_after_it_in_its_group(database: Path) -> None:
    async with open_store(database) as store:
        await prepare(store, "a", "b")
        await store.admit(lease("a", 1))
        await store.admit(lease("b", 2))
        refused: list[str] = []

        async def expect_conflict(operation: object) -> None:
            with pytest.raises(ConflictError) as raised:
                await operation  # type: ignore[misc]
            refused.append(raised.value.reason)

        async with trio.open_nursery() as nursery:
            with BlockedDatabase(database):
                nursery.start_soon(store.revoke_node, A, "stolen", 9_000)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(expect_conflict, renew(store, renewal_of(lease("a", 1), 9_000)))
                nursery.start_soon(expect_conflict, store.admit(lease("a", 3, issued_ms=9_000)))
                nursery.start_soon(renew, store, renewal_of(lease("b", 2), 9_000))
                await trio.testing.wait_all_tasks_blocked()

        assert sorted(refused) == ["lease_ended", "node_revoked"]
        (left,) = await store.open_leases()
        assert (left.node, left.renewed_ms) == (NodeName("b"), 9_000)


async def test_admissions_and_revocations_at_once_leave_one_open_lease_or_none(store: Store) -> None:
    names = [f"n{number}" for number in range(5)]
    await prepare(store, *names)
    admitted: list[int] = []

    async def admit(name: str, number: int) -> None:
        try:
            await store.admit(lease(name, number))
            admitted.append(number)
        except ConflictError as error:
            assert error.reason == "node_revoked"  # noqa: PT017

    async def revoke(name: str) -> None:
        await store.revoke_node(NodeName(name), "reason", 3_000)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(admit, names[number % 5], number)
            if number in {30, 60}:
                nursery.start_soon(revoke, names[number // 30])

    open_nodes = [record.node.value for record in await store.open_leases()]
    assert sorted(open_nodes) == sorted(set(open_nodes)) == [name for name in names if name not in {"n1", "n2"}]
    # The log alone tells the same: every admission has its end, but for the leases that are open.
    kinds = [event.kind for event in await store.events()]
    assert kinds.count("admit") == len(admitted)
    assert kinds.count("end") == len(admitted) - len(open_nodes)


@pytest.mark.parametrize("count", [1, 8, 9, 33, BATCH_SIZES[-1] + 1, 300])
async def test_renewals_of_any_number_succeed_together_but_for_the_refused_one(database: Path, count: int) -> None:
    async with open_store(database) as store:
        names = [f"n{number}" for number in range(count + 1)]
        await store.add_policy(policy())
        await store.import_nodes([(node(name), b"") for name in names])
        for number, name in enumerate(names):
            await store.admit(lease(name, number))
        good = [renewal_of(lease(name, number), 10_000 + number) for number, name in enumerate(names[:count])]

        late, *others = await store.renew_all([renewal_of(lease(names[count], count), 70_000), *good])

        assert late is not None
        assert late.reason == "lease_expired"
        assert others == [None] * count
        renewed = {record.node.value: record.renewed_ms for record in await store.open_leases()}
        assert renewed == {name: 10_000 + number for number, name in enumerate(names[:count])} | {names[count]: 2_000}


async def test_two_renewals_of_one_lease_follow_each_other(database: Path) -> None:
    async with open_store(database) as store:
        await prepare(store, "a")
        await store.admit(lease("a", 1))

        async with trio.open_nursery() as nursery:
            with BlockedDatabase(database):
                for at_ms in (9_000, 10_000, 11_000):
                    nursery.start_soon(renew, store, renewal_of(lease("a", 1), at_ms, clock_ms=500))
                await trio.testing.wait_all_tasks_blocked()

        renewed = await store.open_lease(A)
        assert renewed is not None
        assert renewed.renewed_ms in {9_000, 10_000, 11_000}
