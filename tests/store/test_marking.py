"""What is demanded of a VM's disks at its next start: the root after a good end, registered marks after any other."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec.msgpack
import pytest

from tccp.model import NodeName
from tccp.store import ConflictError, MoveArrival, MoveWord, Store, VmMarks, VmRecord, open_store
from tests.store.support import (
    TENANT,
    claim,
    ek,
    lease,
    lease_id,
    prepare,
    suspension,
    vm_end,
    vm_id,
)

ROOT = ek("root")


@pytest.fixture
async def running(store: Store) -> Store:
    """Node a, of lease 1, runs VM 1; node b has lease 2."""
    await prepare(store, "a", "b")
    await store.add_tenant(TENANT)
    await store.admit(lease("a", 1))
    await store.admit(lease("b", 2))
    await store.release(claim())
    return store


def mark(sequence: int, history: str = "ours") -> bytes:
    """Of one disk."""
    return sequence.to_bytes(8, "little") + ek(f"{history} {sequence}")


def marked(*marks: bytes, lease: int = 1, epoch: int = 1) -> VmMarks:
    return VmMarks(vm_id(1), epoch, lease_id(lease), b"".join(marks))


async def record_of(store: Store) -> VmRecord:
    record = await store.vm(vm_id(1))
    assert record is not None
    return record


async def demanded(store: Store, *, ticket: int = 2, **changes: Any) -> tuple[bytes | None, bytes | None, bytes]:
    """Start it once more: root and marks on record, and what the log says was demanded."""
    record = await store.release(claim(2, ticket=ticket, nonce=2, at_ms=60_000, **changes))
    body = msgspec.msgpack.decode((await store.events())[-1].body)
    return record.disk_root, record.marks, body["disk_root"] + body["marks"]


async def refused(store: Store, said: VmMarks) -> str:
    before = await store.vms()
    with pytest.raises(ConflictError) as refusal:
        await store.register_marks(said)
    assert await store.vms() == before
    return refusal.value.reason


# ---- after which end what is demanded


async def test_after_a_good_end_the_root_is_demanded_and_the_marks_that_came_with_it(running: Store) -> None:
    await running.register_marks(marked(mark(5)))
    await running.end_vm(vm_end(disk_root=ROOT, marks=mark(9)))

    assert await demanded(running) == (ROOT, mark(9), ROOT + mark(9))


async def test_after_a_crash_the_marks_are_demanded_that_were_registered_last(running: Store) -> None:
    await running.end_vm(vm_end(disk_root=ROOT, marks=mark(5)))
    await running.release(claim(ticket=3, nonce=3, at_ms=6_500))
    await running.register_marks(marked(mark(6), epoch=2))
    await running.register_marks(marked(mark(8), epoch=2))
    await running.end_lease(lease_id(1), "silent", 7_000)

    record = await running.release(claim(2, ticket=2, nonce=2, at_ms=100_000, lease_id=await _late_lease(running)))

    assert (record.disk_root, record.marks) == (None, mark(8))


async def _late_lease(store: Store) -> bytes:
    await store.end_lease(lease_id(2), "left", 90_000)
    late = replace(lease("b", 4), issued_ms=95_000, renewed_ms=95_000, expires_ms=200_000)
    await store.admit(late)
    return late.lease_id


async def test_after_a_crash_before_the_first_mark_those_of_the_last_good_end_are_demanded(running: Store) -> None:
    await running.end_vm(vm_end(disk_root=ROOT, marks=mark(5)))
    await running.release(claim(ticket=3, nonce=3, at_ms=6_500))
    await running.end_vm(vm_end(epoch=2, reason="killed_by_host", at_ms=7_000))

    assert await demanded(running) == (None, mark(5), mark(5))


async def test_a_reboot_leaves_the_marks_to_be_demanded(running: Store) -> None:
    await running.end_vm(vm_end(disk_root=ROOT, marks=mark(5)))
    await running.release(claim(ticket=3, nonce=3, at_ms=6_500))

    await running.admit(replace(lease("a", 5), boot_id=b"another boot 123"))

    record = await record_of(running)
    assert (record.state, record.end_reason, record.disk_root, record.marks) == ("lost", "rebooted", None, mark(5))


async def test_an_end_without_a_root_says_its_last_marks(running: Store) -> None:
    await running.register_marks(marked(mark(5)))
    await running.end_vm(vm_end(marks=mark(7)))

    assert await demanded(running) == (None, mark(7), mark(7))


async def test_where_nobody_has_registered_marks_the_last_root_is_demanded(running: Store) -> None:
    await running.end_vm(vm_end(disk_root=ROOT))
    await running.release(claim(ticket=3, nonce=3, at_ms=6_500))
    await running.end_vm(vm_end(epoch=2))

    assert await demanded(running) == (ROOT, None, ROOT)


async def test_a_node_that_comes_back_may_still_say_how_it_left_the_disks(running: Store) -> None:
    await running.register_marks(marked(mark(5)))
    await running.end_lease(lease_id(1), "silent", 5_500)
    await running.admit(lease("a", 6))

    await running.end_vm(vm_end(6, disk_root=ROOT, marks=mark(8)))

    assert await demanded(running) == (ROOT, mark(8), ROOT + mark(8))


async def test_a_suspended_vm_leaves_root_and_marks_and_is_resumed_from_them(running: Store) -> None:
    await running.register_marks(marked(mark(5)))
    await running.suspend_vm(suspension(disk_root=ROOT, marks=mark(6)))

    resumed = await running.resume(claim(2, nonce=2, at_ms=7_000, state_root=ek("state 1"), gives_up_state=True))

    assert (resumed.disk_root, resumed.marks) == (ROOT, mark(6))
    assert msgspec.msgpack.decode((await running.events())[-1].body)["marks"] == mark(6)


async def test_a_tenant_who_takes_the_disk_as_it_is_has_nothing_demanded(running: Store) -> None:
    await running.end_vm(vm_end(disk_root=ROOT, marks=mark(5)))

    assert (await demanded(running, gives_up_state=True))[2] == b""
    # Her disk may be an older one. What it comes to from here is registered all the same, and demanded afterwards.
    await running.register_marks(marked(mark(2), lease=2, epoch=2))
    await running.end_vm(vm_end(2, epoch=2))
    record = await running.release(claim(2, ticket=4, nonce=4, at_ms=60_500))
    assert (record.disk_root, record.marks) == (None, mark(2))


async def test_the_marks_of_a_destination_take_the_place_of_its_sources(running: Store) -> None:
    await running.register_marks(marked(mark(50)))
    await running.prepare_move(claim(2, nonce=5, at_ms=7_000), "there:1")
    await running.arrive(MoveArrival(vm_id(1), 2, ek("nonce 5"), lease_id(2), mark(1, "there")))
    await running.register_marks(marked(mark(51)))  # it still runs here

    await running.commit_move(MoveWord(vm_id(1), 1, ek("nonce 5"), lease_id(1), ek("wiped"), 8_000))

    assert (await record_of(running)).marks == mark(1, "there")
    assert await refused(running, marked(mark(52))) == "vm_of_another_node"
    await running.register_marks(marked(mark(2, "there"), lease=2, epoch=2))


# ---- who may register which


async def test_a_former_owner_registers_nothing(running: Store) -> None:
    await running.register_marks(marked(mark(5)))
    await running.end_vm(vm_end())
    await running.release(claim(2, ticket=2, nonce=2, at_ms=6_500))

    assert await refused(running, marked(mark(6))) == "vm_of_another_node"
    assert await refused(running, marked(mark(6), lease=2)) == "vm_epoch_over"
    assert await refused(running, marked(mark(6), lease=9)) == "vm_of_another_node"
    await running.register_marks(marked(mark(6), lease=2, epoch=2))


async def test_another_boot_of_the_owner_registers_nothing(running: Store) -> None:
    await running.admit(replace(lease("a", 5), boot_id=b"another boot 123"))

    assert await refused(running, marked(mark(5), lease=5)) == "vm_of_another_node"


async def test_marks_never_go_back_while_a_vm_has_one_owner(running: Store) -> None:
    await running.register_marks(marked(mark(5), mark(7)))

    for older in ((mark(4), mark(7)), (mark(5), mark(6)), (mark(5), mark(7, "forked")), (mark(9),)):
        assert await refused(running, marked(*older)) == "marks_old"
    await running.register_marks(marked(mark(5), mark(7)))  # said again
    await running.register_marks(marked(mark(5), mark(8)))
    await running.end_vm(vm_end(marks=mark(1) + mark(1)))  # an end that knows less

    assert (await record_of(running)).marks == mark(5) + mark(8)


async def test_only_of_a_vm_that_may_run_marks_are_registered(running: Store) -> None:
    await running.suspend_vm(suspension(disk_root=ROOT, marks=mark(6)))

    assert await refused(running, marked(mark(7))) == "vm_not_running"
    assert (await record_of(running)).disk_root == ROOT


async def test_marks_are_no_events(running: Store) -> None:
    seq = await running.last_seq()

    await running.register_marks(marked(mark(5)))

    assert await running.last_seq() == seq


async def test_the_database_itself_takes_no_odd_marks(running: Store, database: Path) -> None:
    with sqlite3.connect(database) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE vm SET marks = x'0102'")
    for odd in (bytes(39), bytes(400)):
        with pytest.raises(ValueError, match="marks"):
            marked(odd)


async def test_marks_are_there_after_a_restart_of_the_coordinator(running: Store, database: Path) -> None:
    await running.register_marks(marked(mark(5)))

    async with open_store(database) as store:
        assert (await record_of(store)).marks == mark(5)
        assert (await record_of(store)).node == NodeName("a")
