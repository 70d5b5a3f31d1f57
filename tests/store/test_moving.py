"""A VM moves to one node, by the word of its owner, in one transaction; whoever comes in between changes nothing."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec.msgpack
import pytest

from tccp.model import NodeName
from tccp.store import ConflictError, KeyClaim, MoveArrival, MoveWord, Store, VmMarks, VmRecord, VmState
from tccp.store.schema import connect_reader
from tests.store.support import (
    TENANT,
    claim,
    destruction,
    ek,
    lease,
    lease_id,
    node,
    prepare,
    suspension,
    vm_end,
    vm_id,
)

MARKS = (1).to_bytes(8, "little") + ek("there")


@pytest.fixture
async def running(store: Store) -> Store:
    """Node a, of lease 1, runs VM 1 by ticket 1; b and c have the leases 2 and 3."""
    await prepare(store)
    await store.add_tenant(TENANT)
    for number, name in enumerate("abc", start=1):
        await store.enrol_node(replace(node(name), attributes={"site": "delft"} if name == "b" else {}))
        await store.admit(lease(name, number))
    await store.release(claim())
    return store


def wish(lease: int = 2, /, *, nonce: int = 5, **changes: Any) -> KeyClaim:
    return claim(lease, nonce=nonce, at_ms=7_000, **changes)


def word(lease: int = 1, /, *, epoch: int = 1, nonce: int = 5, at_ms: int = 8_000) -> MoveWord:
    return MoveWord(vm_id(1), epoch, ek(f"nonce {nonce}"), lease_id(lease), ek("wiped"), at_ms)


async def prepared(store: Store, lease: int = 2, /, *, nonce: int = 5, epoch: int = 2) -> None:
    """It is on its way, and all of it has arrived."""
    await store.prepare_move(wish(lease, nonce=nonce), "there:1")
    await store.arrive(arrival(lease, nonce=nonce, epoch=epoch))


def arrival(lease: int = 2, /, *, epoch: int = 2, nonce: int = 5) -> MoveArrival:
    return MoveArrival(vm_id(1), epoch, ek(f"nonce {nonce}"), lease_id(lease), MARKS)


async def record_of(store: Store) -> VmRecord:
    record = await store.vm(vm_id(1))
    assert record is not None
    return record


async def refused(store: Store, doing: Any) -> str:
    seq, before = await store.last_seq(), (await store.vms(), await store.move(vm_id(1), 7_000))
    with pytest.raises(ConflictError) as refusal:
        await doing
    assert (await store.last_seq(), (await store.vms(), await store.move(vm_id(1), 7_000))) == (seq, before)
    return refusal.value.reason


async def test_a_vm_is_its_destinations_once_its_source_has_wiped_it(running: Store) -> None:
    move = await running.prepare_move(wish(), "there:1")
    assert (move.node, move.epoch) == (NodeName("b"), 1)
    assert ((await record_of(running)).node, (await record_of(running)).epoch) == (NodeName("a"), 1)
    await running.arrive(arrival())

    moved = await running.commit_move(word())

    assert moved == await record_of(running)
    assert (moved.state, moved.node, moved.epoch, moved.lease_id) == ("running", NodeName("b"), 2, lease_id(2))
    assert [event.kind for event in (await running.events())[-2:]] == ["move", "moved"]


async def test_what_was_known_of_the_destination_when_it_got_the_keys_stands_in_both_events(running: Store) -> None:
    said = {"attested": {"hardware": "epyc"}, "attested_by": ("tvmm", 1), "attributes": {"site": "delft"}}
    await running.prepare_move(wish(**said, attested_demands={"hardware": "epyc"}), "there:1")
    await running.arrive(arrival())
    await running.set_attributes(NodeName("b"), {"site": "paris"}, (), 7_500)
    await running.arrive(arrival())
    await running.commit_move(word())

    for event in (await running.events())[-3::2]:
        body = msgspec.msgpack.decode(event.body)
        assert (body["attested"], body["asserted"]) == ('{"hardware":"epyc"}', '{"site":"delft"}')
    assert msgspec.msgpack.decode((await running.events())[-1].body)["wiped_sha256"] == ek("wiped")
    assert await running.move(vm_id(1), 7_000) is None
    assert await running.end_vm(vm_end(2, epoch=2)) > 0


async def test_asking_again_is_the_same_move_and_nobody_else_is_in_it(running: Store) -> None:
    first = await running.prepare_move(wish(), "there:1")

    assert await running.prepare_move(wish(), "there:1") == first
    assert await refused(running, running.prepare_move(wish(3), "there:1")) == "vm_moving"
    assert await refused(running, running.prepare_move(wish(nonce=6), "there:1")) == "vm_moving"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (wish(1), "vm_running"),
        (wish(ticket=2), "another_ticket"),
        (wish(vm=2), "vm_unknown"),
        (wish(policy="strict"), "policy_not_demanded"),
        (wish(3, attributes={"site": "delft"}), "attribute_not_demanded"),
        (wish(attested_demands={"site": "delft"}), "attribute_not_attested"),
        (wish(evidence_since_ms=6_000), "evidence_old"),
        (wish(9), "lease_unknown"),
    ],
)
async def test_a_destination_must_be_what_a_start_takes(running: Store, wanted: KeyClaim, reason: str) -> None:
    assert await refused(running, running.prepare_move(wanted, "there:1")) == reason


async def test_only_the_owner_in_its_epoch_gives_the_word_and_only_for_this_move(running: Store) -> None:
    await running.prepare_move(wish(), "there:1")

    for said, reason in [
        (word(2), "vm_of_another_node"),
        (word(3), "vm_of_another_node"),
        (word(epoch=2), "vm_epoch_over"),
        (word(nonce=6), "move_unknown"),
    ]:
        assert await refused(running, running.commit_move(said)) == reason
        assert await refused(running, running.abort_move(said)) == reason


async def test_a_word_that_was_said_before_is_nothing_for_the_next_move(running: Store) -> None:
    await prepared(running)
    await running.commit_move(word())
    await prepared(running, 1, nonce=6, epoch=3)

    assert (await running.commit_move(word())).node == NodeName("b")  # as it was answered before
    assert await running.move(vm_id(1), 8_000) is not None
    other = MoveWord(vm_id(1), 1, ek("nonce 5"), lease_id(1), ek("said by somebody else"), 8_000)
    assert await refused(running, running.commit_move(other)) == "vm_of_another_node"
    await running.commit_move(word(2, epoch=2, nonce=6))
    assert await refused(running, running.commit_move(word())) == "vm_epoch_over"
    assert ((await record_of(running)).node, (await record_of(running)).epoch) == (NodeName("a"), 3)


async def test_a_word_whose_answer_was_lost_is_answered_again(running: Store) -> None:
    await prepared(running)
    moved = await running.commit_move(word())
    seq = await running.last_seq()

    await running.admit(lease("a", 4, 8_500))
    assert await running.commit_move(word(4, at_ms=9_000)) == moved
    assert await running.last_seq() == seq + 2  # of the admission alone


async def test_a_move_that_the_source_gives_up_can_begin_again(running: Store) -> None:
    await running.prepare_move(wish(), "there:1")
    await running.abort_move(word())

    assert await refused(running, running.commit_move(word())) == "move_unknown"
    assert (await record_of(running)).node == NodeName("a")
    assert (await running.prepare_move(wish(3), "there:1")).node == NodeName("c")


async def test_a_destination_that_was_revoked_in_the_meantime_gets_nothing(running: Store) -> None:
    await prepared(running)
    await running.revoke_node(NodeName("b"), "sold", 7_500)

    ended = await running.commit_move(word())

    assert (ended.state, ended.end_reason, ended.node) == (VmState.ENDED, "destination_lost", NodeName("a"))
    assert (await running.release(claim(3, ticket=2, at_ms=9_000))).epoch == 2


async def test_a_destination_that_was_rebooted_in_the_meantime_gets_nothing(running: Store) -> None:
    await prepared(running)
    await running.admit(replace(lease("b", 4, 7_500), boot_id=b"another boot ..."))

    assert (await running.commit_move(word())).state == VmState.ENDED


@pytest.mark.parametrize(
    ("at_ms", "state", "owner"), [(61_999, VmState.RUNNING, "b"), (62_000, VmState.ENDED, "a")], ids=["control", "over"]
)
async def test_a_destination_whose_lease_is_over_gets_nothing_before_anybody_has_noticed(
    running: Store, at_ms: int, state: VmState, owner: str
) -> None:
    await prepared(running)

    record = await running.commit_move(word(at_ms=at_ms))

    assert (record.state, record.node) == (state, NodeName(owner))


async def test_a_destination_with_a_new_lease_of_the_same_boot_gets_it(running: Store) -> None:
    await prepared(running)
    await running.admit(lease("b", 4, 7_500))

    assert (await running.commit_move(word())).lease_id == lease_id(4)


async def test_a_vm_whose_node_is_gone_does_not_begin_to_move(running: Store) -> None:
    await running.end_lease(lease_id(1), "left", 6_000)

    assert await refused(running, running.prepare_move(wish(), "there:1")) == "vm_not_running"


@pytest.mark.parametrize("over", ["end", "suspend"])
async def test_a_move_is_over_with_its_vm(running: Store, over: str) -> None:
    await running.prepare_move(wish(), "there:1")
    await (running.end_vm(vm_end()) if over == "end" else running.suspend_vm(suspension()))

    assert await running.move(vm_id(1), 7_000) is None
    assert await refused(running, running.commit_move(word())) == "move_unknown"


@pytest.mark.parametrize("over", ["end", "suspend", "destroy", "release"])
async def test_nothing_stays_of_a_move_that_is_over(running: Store, database: Path, over: str) -> None:
    """Each admission of a node goes through all that are under way."""
    await running.prepare_move(wish(), "there:1")
    if over == "end":
        await running.end_vm(vm_end())
    elif over == "suspend":
        await running.suspend_vm(suspension())
    elif over == "destroy":
        await running.destroy_vm(destruction())
    else:
        await running.lapse_leases(62_000)
        free_ms = (await record_of(running)).free_ms
        await running.admit(lease("b", 4, free_ms))
        await running.release(claim(4, ticket=2, at_ms=free_ms))

    with contextlib.closing(connect_reader(database)) as reader:
        assert reader.execute("SELECT count(*) FROM vm_move").fetchone() == (0,)


async def test_a_source_that_lost_its_lease_after_wiping_may_still_say_so(running: Store) -> None:
    await prepared(running)
    await running.admit(lease("b", 5, 60_000))
    await running.lapse_leases(62_000)
    await running.admit(lease("a", 4, 63_000))

    moved = await running.commit_move(word(4, at_ms=64_000))

    assert (moved.state, moved.node, moved.epoch) == ("running", NodeName("b"), 2)


async def test_a_destination_where_it_has_not_arrived_gets_nothing_and_its_source_starts_it_again(
    running: Store,
) -> None:
    await running.register_marks(VmMarks(vm_id(1), 1, lease_id(1), MARKS))
    await running.prepare_move(wish(), "there:1")

    ended = await running.commit_move(word())

    assert (ended.state, ended.end_reason, ended.node) == (VmState.ENDED, "destination_lost", NodeName("a"))
    assert (ended.disk_root, ended.marks) == (None, MARKS)


async def test_only_the_destination_of_a_move_arrives(running: Store) -> None:
    assert await refused(running, running.arrive(arrival())) == "move_over"
    await running.prepare_move(wish(), "there:1")

    for said in (arrival(1), arrival(3), arrival(9), arrival(epoch=1), arrival(epoch=3), arrival(nonce=6)):
        assert await refused(running, running.arrive(said)) == "move_over"
    await running.arrive(arrival())
    await running.arrive(arrival())  # said again

    assert (await running.move(vm_id(1), 7_000) or pytest.fail("no move")).marks == MARKS
    moved = await running.commit_move(word())
    assert (moved.marks, moved.marks_epoch, moved.disk_root) == (MARKS, 2, None)


async def test_a_move_that_begins_again_has_not_arrived(running: Store) -> None:
    await prepared(running)
    await running.abort_move(word())

    await running.prepare_move(wish(3, nonce=6), "there:1")

    assert (await running.move(vm_id(1), 7_000) or pytest.fail("no move")).marks is None


async def test_a_move_is_over_when_its_source_comes_back_as_another_boot(running: Store) -> None:
    await running.prepare_move(wish(), "there:1")
    await running.admit(replace(lease("a", 4, 7_500), boot_id=b"another boot ..."))

    assert await running.move(vm_id(1), 7_500) is None
    assert await refused(running, running.commit_move(word(4))) == "vm_of_another_node"


async def test_a_move_is_over_when_its_source_is_put_out(running: Store) -> None:
    await running.prepare_move(wish(), "there:1")
    await running.revoke_node(NodeName("a"), "sold", 7_500)

    assert await running.move(vm_id(1), 7_500) is None


async def test_a_move_is_over_once_the_vm_may_be_given_to_others(running: Store) -> None:
    """Nobody waits for the word of a source that has been silent for so long, and it comes too late."""
    await running.prepare_move(wish(), "there:1")
    await running.lapse_leases(62_000)
    free_ms = (await record_of(running)).free_ms
    await running.admit(lease("a", 4, free_ms - 10))
    await running.admit(lease("b", 5, free_ms - 10))
    await running.arrive(arrival(5))

    assert await running.move(vm_id(1), free_ms - 1) is not None
    assert await running.move(vm_id(1), free_ms) is None
    assert await refused(running, running.commit_move(word(4, at_ms=free_ms))) == "move_unknown"
    assert (await running.commit_move(word(4, at_ms=free_ms - 1))).node == NodeName("b")
