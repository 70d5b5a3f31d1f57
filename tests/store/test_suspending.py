"""A suspended VM is resumed once, from its newest state, and never beside a copy; a destroyed one never again."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec.msgpack
import pytest

from tccp.model import NodeName
from tccp.store import ConflictError, KeyClaim, Store, VmRecord, VmState, open_store
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


@pytest.fixture
async def running(store: Store) -> Store:
    """Node a, of lease 1, runs VM 1 by ticket 1; node b has lease 2."""
    await prepare(store)
    await store.enrol_node(replace(node("a"), attributes={"site": "delft"}))
    await store.enrol_node(node("b"))
    await store.add_tenant(TENANT)
    await store.admit(lease("a", 1))
    await store.admit(lease("b", 2))
    await store.release(claim())
    return store


def wish(lease: int = 1, /, *, state: int = 1, nonce: int = 2, **changes: Any) -> KeyClaim:
    """To resume it."""
    return claim(lease, nonce=nonce, at_ms=7_000, state_root=ek(f"state {state}"), **changes)


async def record_of(store: Store) -> VmRecord:
    record = await store.vm(vm_id(1))
    assert record is not None
    return record


async def refused(store: Store, wanted: KeyClaim) -> str:
    seq, before = await store.last_seq(), await store.vms()
    with pytest.raises(ConflictError) as refusal:
        await store.resume(wanted)
    assert (await store.last_seq(), await store.vms()) == (seq, before)
    return refusal.value.reason


async def body_of_last(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode((await store.events())[-1].body)
    return found


async def test_a_suspended_vm_goes_on_where_its_ticket_allows_with_its_disk(running: Store) -> None:
    seq = await running.suspend_vm(suspension(disk_root=ek("disk")))
    record = await record_of(running)
    assert (record.state, record.generation, record.state_root) == (VmState.SUSPENDED, 1, ek("state 1"))
    assert (await running.events())[-1].seq == seq
    assert (await body_of_last(running))["disk_root"] == ek("disk")

    resumed = await running.resume(wish(2))

    assert resumed == await record_of(running)
    assert (resumed.state, resumed.node, resumed.epoch) == (VmState.RUNNING, NodeName("b"), 2)
    assert (resumed.generation, resumed.disk_root) == (1, ek("disk"))
    assert ((await running.events())[-1].kind, (await body_of_last(running))["generation"]) == ("resume", 1)


async def test_a_state_is_resumed_once(running: Store) -> None:
    await running.suspend_vm(suspension())
    first = await running.resume(wish(2))

    assert await refused(running, wish(2, nonce=3)) == "vm_not_suspended"
    assert await refused(running, wish(1)) == "vm_not_suspended"
    assert await running.resume(wish(2)) == first  # the answer was lost on the way
    await running.end_vm(vm_end(2, epoch=2))
    assert await refused(running, wish(2)) == "vm_not_suspended"


async def test_only_the_newest_state_is_resumed(running: Store) -> None:
    await running.suspend_vm(suspension())
    await running.resume(wish())
    await running.suspend_vm(suspension(epoch=2, state=2))

    assert await refused(running, wish(state=1, nonce=3)) == "state_old"
    assert (await running.resume(wish(state=2, nonce=3))).generation == 2


async def test_only_the_ticket_that_started_it_resumes_it(running: Store) -> None:
    await running.suspend_vm(suspension())

    assert await refused(running, wish(ticket=2)) == "another_ticket"
    assert await refused(running, wish(vm=2)) == "vm_unknown"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tenant_key": ek("stranger")}, "tenant_unknown"),
        ({"lease_id": lease_id(9)}, "lease_unknown"),
        ({"evidence_since_ms": 6_000}, "evidence_old"),
        ({"policy": "strict"}, "policy_not_demanded"),
        ({"attributes": {"site": "berlin"}}, "attribute_not_demanded"),
        ({"attested_demands": {"site": "delft"}}, "attribute_not_attested"),
    ],
)
async def test_resuming_takes_all_that_a_start_takes(running: Store, changes: dict[str, Any], reason: str) -> None:
    await running.suspend_vm(suspension())

    assert await refused(running, replace(wish(), **changes)) == reason


async def test_a_revoked_node_resumes_nothing(running: Store) -> None:
    await running.suspend_vm(suspension())
    await running.revoke_node(NodeName("b"), "sold", 6_500)

    assert await refused(running, wish(2)) == "lease_ended"
    assert (await record_of(running)).state == VmState.SUSPENDED


async def test_a_suspended_vm_is_started_anew_only_by_a_tenant_who_gives_its_state_up(running: Store) -> None:
    await running.suspend_vm(suspension())
    with pytest.raises(ConflictError, match="vm_suspended"):
        await running.release(claim(ticket=2, at_ms=7_000))

    await running.release(claim(ticket=2, at_ms=7_000, gives_up_state=True))

    assert ((await record_of(running)).generation, (await record_of(running)).state_root) == (0, None)
    assert await refused(running, wish(nonce=3)) == "another_ticket"


async def test_suspending_is_said_by_the_owner_of_that_epoch_and_may_be_said_again(running: Store) -> None:
    for said, reason in [
        (suspension(2), "vm_of_another_node"),
        (suspension(epoch=2), "vm_epoch_over"),
        (suspension(vm=2), "vm_unknown"),
        (suspension(generation=7), "state_old"),
    ]:
        with pytest.raises(ConflictError, match=reason):
            await running.suspend_vm(said)

    assert await running.suspend_vm(suspension()) > 0
    assert await running.suspend_vm(suspension()) == 0
    with pytest.raises(ConflictError, match="vm_not_running"):
        await running.suspend_vm(suspension(state=2))
    assert await running.end_vm(vm_end()) == 0  # and its end does not undo it
    assert (await record_of(running)).state == VmState.SUSPENDED


async def test_a_node_that_lost_its_lease_may_still_say_that_it_has_suspended(running: Store) -> None:
    await running.lapse_leases(62_000)
    await running.admit(lease("a", 3, 63_000))

    await running.suspend_vm(suspension(3, at_ms=64_000))

    assert (await record_of(running)).state == VmState.SUSPENDED


async def test_a_resumed_vm_that_never_ran_is_given_back_as_it_was(running: Store) -> None:
    await running.suspend_vm(suspension())
    await running.resume(wish(2))
    with pytest.raises(ConflictError, match="state_old"):
        await running.suspend_vm(suspension(2, epoch=2, generation=1, state=9))

    await running.suspend_vm(suspension(2, epoch=2, generation=1))

    resumed = await running.resume(wish(nonce=3))
    assert (resumed.epoch, resumed.generation, resumed.node) == (3, 1, NodeName("a"))


async def test_an_old_state_is_not_said_to_be_a_new_one(running: Store) -> None:
    await running.suspend_vm(suspension())
    await running.resume(wish(2))

    with pytest.raises(ConflictError, match="state_old"):
        await running.suspend_vm(suspension(2, epoch=2, state=1))
    assert (await record_of(running)).state == VmState.RUNNING


async def go_round(store: Store, epoch: int, **changes: Any) -> None:
    """Suspended in *epoch*, and resumed."""
    await store.suspend_vm(suspension(epoch=epoch, state=epoch))
    await store.resume(wish(state=epoch, nonce=1 + epoch, **changes))


def states(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("SELECT generation FROM vm_state ORDER BY generation")]


async def test_of_a_vm_that_may_not_go_back_only_the_newest_state_stays_on_record(
    running: Store, database: Path
) -> None:
    """Else whoever suspends and resumes a VM again and again fills the database."""
    for epoch in (1, 2, 3):
        await go_round(running, epoch)
    await running.suspend_vm(suspension(epoch=4, state=4))

    assert states(database) == [4]
    assert (await running.resume(wish(state=4, nonce=9))).generation == 4


async def test_of_one_that_may_each_state_stays_until_it_has_run_by_a_ticket_that_does_not_allow_that(
    running: Store, database: Path
) -> None:
    allowing = {"ticket": 2, "may_roll_back": True}
    await running.end_vm(vm_end())
    await running.release(claim(at_ms=7_000, nonce=2, **allowing))
    for epoch in (2, 3):
        await go_round(running, epoch, **allowing)
    assert states(database) == [2, 3]
    await running.end_vm(vm_end(epoch=4))
    assert (await running.resume(wish(state=2, nonce=8, **allowing))).generation == 2
    await running.end_vm(vm_end(epoch=5))

    await running.release(claim(ticket=3, nonce=9, at_ms=7_000))

    assert states(database) == [2, 3]  # it may never run
    await running.suspend_vm(suspension(epoch=6, state=6))
    assert states(database) == [6]


async def test_a_resumption_that_comes_to_nothing_takes_no_older_state_along(running: Store, database: Path) -> None:
    allowing = {"ticket": 2, "may_roll_back": True}
    await running.end_vm(vm_end())
    await running.release(claim(at_ms=7_000, nonce=2, **allowing))
    await go_round(running, 2, **allowing)
    await running.suspend_vm(suspension(epoch=3, state=3))
    await running.resume(wish(state=3, nonce=8, ticket=2))  # as if it allowed it no more

    await running.suspend_vm(suspension(epoch=4, generation=3, state=3))

    assert states(database) == [2, 3]


async def test_a_database_from_before_forgets_no_state_that_somebody_may_go_back_to(
    database: Path,
) -> None:
    allowing = {"ticket": 1, "may_roll_back": True}
    async with open_store(database) as store:
        await prepare(store, "a", "b")
        await store.add_tenant(TENANT)
        await store.admit(lease("a", 1))
        await store.release(claim(**allowing))
        await go_round(store, 1, **allowing)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE vm DROP COLUMN may_roll_back")
        connection.execute("PRAGMA user_version = 11")

    async with open_store(database) as store:
        await store.suspend_vm(suspension(epoch=2, state=2))

        assert states(database) == [1, 2]
        assert (await store.resume(wish(state=1, nonce=8, **allowing))).generation == 1


async def test_a_suspended_vm_outlives_the_lease_of_its_node(running: Store) -> None:
    await running.suspend_vm(suspension())

    await running.revoke_node(NodeName("a"), "sold", 6_500)

    assert (await record_of(running)).state == VmState.SUSPENDED
    assert (await running.resume(wish(2))).node == NodeName("b")


@pytest.mark.parametrize("first", [None, "end", "suspend"])
async def test_a_destroyed_vm_never_runs_again(running: Store, first: str | None) -> None:
    if first == "end":
        await running.end_vm(vm_end())
    if first == "suspend":
        await running.suspend_vm(suspension())

    seq = await running.destroy_vm(destruction())

    assert await running.destroy_vm(destruction()) == seq
    assert ((await record_of(running)).state, (await record_of(running)).destroy_seq) == (VmState.DESTROYED, seq)
    assert (await body_of_last(running))["statement_sha256"] == ek("statement")
    assert await refused(running, wish(2)) == "vm_not_suspended"
    with pytest.raises(ConflictError, match="vm_destroyed"):
        await running.release(claim(ticket=2, at_ms=7_000, gives_up_state=True))
    assert await running.end_vm(vm_end()) == 0


async def test_only_the_node_that_had_it_says_that_a_vm_is_destroyed(running: Store) -> None:
    for said, reason in [(destruction(2), "vm_of_another_node"), (destruction(epoch=2), "vm_epoch_over")]:
        with pytest.raises(ConflictError, match=reason):
            await running.destroy_vm(said)
    assert (await record_of(running)).state == VmState.RUNNING


async def test_a_later_boot_of_the_node_may_finish_a_destruction(running: Store) -> None:
    await running.suspend_vm(suspension())
    await running.admit(replace(lease("a", 3, 7_000), boot_id=b"another boot ..."))

    assert await running.destroy_vm(destruction(3, at_ms=8_000)) > 0


async def test_a_destruction_that_a_later_boot_says_once_more_is_another_event_and_each_is_said_once(
    running: Store,
) -> None:
    first = await running.destroy_vm(destruction())
    await running.admit(replace(lease("a", 3, 7_000), boot_id=b"another boot ..."))
    again = replace(destruction(3, at_ms=8_000), statement_sha256=ek("again"), identity_sha256=ek("another boot"))

    second = await running.destroy_vm(again)

    assert second > first
    assert (await body_of_last(running))["statement_sha256"] == ek("again")
    assert [await running.destroy_vm(said) for said in (again, destruction(3, at_ms=9_000))] == [second, first]
    record = await record_of(running)
    assert (record.state, record.destroy_seq, record.end_reason) == (VmState.DESTROYED, first, "destroyed")
    with pytest.raises(ConflictError, match="vm_of_another_node"):
        await running.destroy_vm(replace(destruction(2), statement_sha256=ek("by another node")))


async def test_the_database_itself_keeps_a_destroyed_vm_destroyed(running: Store, tmp_path: Path) -> None:
    await running.destroy_vm(destruction())
    path = tmp_path / "other.db"
    async with open_store(path) as store:
        await prepare(store, "a")
        await store.add_tenant(TENANT)
        await store.admit(lease("a", 1))
        await store.release(claim())
        await store.destroy_vm(destruction())

    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="stays destroyed"):
        connection.execute("UPDATE vm SET state = 'ended', destroy_seq = NULL")
