"""Names and endorsement keys belong together for ever."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tccp.model import NodeName
from tccp.store import ConflictError, EventKind, Store, open_store
from tests.store.support import POLICY, ek, lease, node, prepare


async def test_an_enrolled_node_is_found_by_name_and_by_ek(store: Store) -> None:
    record = replace(node("a"), attributes={"site": "Lisbon", "rack": ""})

    seq = await store.enrol_node(record, b"who asked")

    assert await store.node_by_name(NodeName("a")) == record
    assert await store.node_by_ek(ek("a")) == record
    assert await store.node_by_name(NodeName("b")) is None
    assert await store.node_by_ek(ek("b")) is None
    (event,) = await store.events()
    assert (event.seq, event.at_ms, event.kind, event.node, event.body) == (
        seq,
        record.enrolled_ms,
        EventKind.ENROL,
        NodeName("a"),
        b"who asked",
    )


@pytest.mark.parametrize("gone", [False, True], ids=["enrolled", "removed"])
async def test_an_ek_never_gets_a_second_name(store: Store, gone: bool) -> None:
    await store.enrol_node(node("a"))
    if gone:
        await store.remove_node(NodeName("a"), 2_000)

    with pytest.raises(ConflictError, match=r"ek_bound.*enrolled as a"):
        await store.enrol_node(node("b", ek_of="a"))
    with pytest.raises(ConflictError, match="ek_bound"):
        await store.import_nodes([(node("c"), b""), (node("b", ek_of="a"), b"")])

    assert await store.node_by_name(NodeName("b")) is None
    assert await store.node_by_name(NodeName("c")) is None


@pytest.mark.parametrize("gone", [False, True], ids=["enrolled", "removed"])
async def test_a_name_never_gets_a_second_ek(store: Store, gone: bool) -> None:
    await store.enrol_node(node("a"))
    if gone:
        await store.remove_node(NodeName("a"), 2_000)

    with pytest.raises(ConflictError, match="name_bound"):
        await store.enrol_node(node("a", ek_of="b"))
    with pytest.raises(ConflictError, match="name_bound"):
        await store.import_nodes([(node("a", ek_of="b"), b"")])


async def test_the_database_itself_keeps_the_bindings(database: Path) -> None:
    async with open_store(database) as store:
        await store.enrol_node(node("a"))
    connection = sqlite3.connect(database)

    for statement in ("DELETE FROM binding", "UPDATE binding SET ek_id = zeroblob(32)"):
        with pytest.raises(sqlite3.IntegrityError, match="a binding is never"):
            connection.execute(statement)

    # Control: with the triggers gone the same statement works, so it is they that refuse.
    connection.execute("DROP TRIGGER binding_is_never_changed")
    connection.execute("UPDATE binding SET ek_id = zeroblob(32)")
    connection.close()


async def test_the_same_node_may_come_back_after_removal(store: Store) -> None:
    await store.enrol_node(node("a"))
    await store.remove_node(NodeName("a"), 2_000)
    assert await store.node_by_name(NodeName("a")) is None
    assert await store.node_by_ek(ek("a")) is None

    await store.enrol_node(node("a"))

    assert await store.node_by_name(NodeName("a")) == node("a")


async def test_a_node_is_enrolled_once(store: Store) -> None:
    await store.enrol_node(node("a"))

    with pytest.raises(ConflictError, match="node_exists"):
        await store.enrol_node(node("a"))

    assert await store.last_seq() == 1


async def test_an_import_adds_what_is_new(store: Store) -> None:
    await store.enrol_node(node("b"))

    added = await store.import_nodes([(node(name), name.encode()) for name in "abc"])

    assert added == [NodeName("a"), NodeName("c")]
    assert [event.body for event in await store.events()] == [b"", b"a", b"c"]


async def test_nodes_are_listed_in_pages(store: Store) -> None:
    names = [f"n{number:03}" for number in range(25)]
    await store.import_nodes([(node(name), b"") for name in reversed(names)])

    listed: list[str] = []
    after = None
    while page := await store.list_nodes(after, limit=10):
        listed += [record.name.value for record in page]
        after = page[-1].name

    assert listed == names


async def test_another_policy_judges_the_next_admission(store: Store) -> None:
    await prepare(store, "a")

    await store.set_node_policy(NodeName("a"), "other", 3_000, b"why")

    record = await store.node_by_name(NodeName("a"))
    assert record is not None
    assert record.policy == "other"
    with pytest.raises(ConflictError, match="policy_unknown"):
        await store.admit(lease("a", 1))


async def test_a_revoked_node_is_out_until_it_is_reinstated(store: Store) -> None:
    await prepare(store, "a")
    await store.admit(lease("a", 1))

    await store.revoke_node(NodeName("a"), "stolen", 3_000, b"by whom")

    record = await store.node_by_name(NodeName("a"))
    assert record is not None
    assert (record.revoked_ms, record.revoke_reason) == (3_000, "stolen")
    assert await store.open_lease(NodeName("a")) is None
    with pytest.raises(ConflictError, match="node_revoked"):
        await store.admit(lease("a", 2))
    with pytest.raises(ConflictError, match="node_revoked"):
        await store.revoke_node(NodeName("a"), "again", 3_001)

    await store.reinstate_node(NodeName("a"), 4_000)

    assert await store.node_by_name(NodeName("a")) == node("a")
    await store.admit(lease("a", 2))
    with pytest.raises(ConflictError, match="node_not_revoked"):
        await store.reinstate_node(NodeName("a"), 5_000)
    kinds = [event.kind for event in await store.events()]
    assert kinds == ["policy", "enrol", "admit", "revoke", "end", "reinstate", "admit"]


async def test_nothing_is_done_to_an_unknown_node(store: Store) -> None:
    nobody = NodeName("nobody")

    with pytest.raises(ConflictError, match="node_unknown"):
        await store.revoke_node(nobody, "reason", 1)
    with pytest.raises(ConflictError, match="node_unknown"):
        await store.reinstate_node(nobody, 1)
    with pytest.raises(ConflictError, match="node_unknown"):
        await store.remove_node(nobody, 1)
    with pytest.raises(ConflictError, match="node_unknown"):
        await store.set_node_policy(nobody, POLICY, 1)

    assert await store.last_seq() == 0


async def test_removing_a_node_ends_its_lease(store: Store) -> None:
    await prepare(store, "a")
    await store.admit(lease("a", 1))

    await store.remove_node(NodeName("a"), 5_000)

    ended = await store.lease(lease("a", 1).lease_id)
    assert ended == replace(lease("a", 1), ended_ms=5_000, end_reason="removed")
    assert await store.leases_of(NodeName("a")) == [ended]


async def test_each_policy_knows_how_many_nodes_it_judges(store: Store) -> None:
    for name, judged_by in (("a", "one"), ("b", "one"), ("c", "two"), ("d", "three")):
        await store.enrol_node(replace(node(name), policy=judged_by))
    await store.revoke_node(NodeName("d"), "sold", 1)

    assert await store.nodes_by_policy() == {"one": 2, "two": 1}
