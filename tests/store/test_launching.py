"""One transaction decides who owns a VM: each condition, each way to lose it, and many who want it at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec.msgpack
import pytest
import trio

from tccp.model import NodeName
from tccp.store import ConflictError, Store, VmRecord, VmState, open_store
from tccp.store.ownership import STOP_GRACE_MS
from tests.store.support import (
    TENANT,
    claim,
    ek,
    lease,
    lease_id,
    node,
    policy,
    prepare,
    renew,
    renewal_of,
    vm_end,
    vm_id,
)


@pytest.fixture
async def ready(store: Store) -> Store:
    """A tenant, and nodes a and b with the leases 1 and 2 from 2 s to 62 s."""
    await prepare(store)
    await store.enrol_node(replace(node("a"), attributes={"site": "delft", "rack": "7"}))
    await store.enrol_node(node("b"))
    await store.add_tenant(TENANT)
    await store.admit(lease("a", 1))
    await store.admit(lease("b", 2))
    return store


async def refused(store: Store, **changes: Any) -> str:
    """Claim keys, and be refused: why. Nothing has changed then."""
    seq, before = await store.last_seq(), await store.vms()
    with pytest.raises(ConflictError) as refusal:
        await store.release(claim(**changes))
    assert (await store.last_seq(), await store.vms()) == (seq, before)
    return refusal.value.reason


async def body_of_last(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode((await store.events())[-1].body)
    return found


async def state_of(store: Store) -> tuple[str, str, int]:
    record = await store.vm(vm_id(1))
    assert record is not None
    return record.state, record.node.value, record.free_ms


async def test_a_release_makes_the_node_the_owner_and_is_in_the_log(ready: Store) -> None:
    record = await ready.release(claim())

    assert await ready.vm(vm_id(1)) == record
    assert (record.state, record.node, record.epoch) == (VmState.RUNNING, NodeName("a"), 1)
    event = (await ready.events())[-1]
    assert (event.kind, event.node, event.seq, event.at_ms) == ("release", NodeName("a"), record.seq, 5_000)
    body = await body_of_last(ready)
    assert (body["vm_id"], body["ticket"], body["epoch"]) == (vm_id(1), ek("ticket 1"), 1)
    assert (body["policy"], body["policy_version"], body["evidence_ms"]) == ("tvmm", 1, 2_000)


async def test_only_an_enrolled_tenant_gets_anything(ready: Store) -> None:
    assert await refused(ready, tenant_key=ek("stranger")) == "tenant_unknown"

    await ready.remove_tenant("acme", 4_000)

    assert await refused(ready) == "tenant_unknown"


async def test_tenants_are_known_by_one_name_and_one_key(ready: Store) -> None:
    for again in (replace(TENANT, name="other"), replace(TENANT, key=ek("other"))):
        with pytest.raises(ConflictError, match="tenant_exists"):
            await ready.add_tenant(again)
    with pytest.raises(ConflictError, match="tenant_unknown"):
        await ready.remove_tenant("other", 4_000)

    await ready.remove_tenant("acme", 4_000)
    await ready.add_tenant(replace(TENANT, name="other"))

    assert [tenant.name for tenant in await ready.tenants()] == ["other"]


async def test_a_lease_must_be_open_and_hold(ready: Store) -> None:
    assert await refused(ready, lease_id=lease_id(9)) == "lease_unknown"
    assert await refused(ready, at_ms=62_000) == "lease_expired"

    await ready.end_lease(lease_id(1), "left", 4_000)

    assert await refused(ready) == "lease_ended"


async def test_a_revoked_node_gets_nothing(ready: Store) -> None:
    await ready.revoke_node(NodeName("a"), "sold", 4_000)

    assert await refused(ready) == "lease_ended"


async def test_evidence_must_be_fresh(ready: Store) -> None:
    assert await refused(ready, at_ms=32_000, evidence_since_ms=2_001) == "evidence_old"
    await ready.release(claim(at_ms=32_000, evidence_since_ms=2_000))
    await renew(ready, renewal_of(lease("a", 1), 40_000))

    await ready.release(claim(ticket=2, vm=2, at_ms=70_000, evidence_since_ms=40_000))


async def test_evidence_that_another_policy_judged_does_not_count(ready: Store) -> None:
    await ready.add_policy(policy(version=2))
    assert await refused(ready) == "policy_changed"

    await renew(ready, renewal_of(lease("a", 1), 4_000, policy_version=2))
    await ready.release(claim(version_min=2))


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        ({"policy": "strict"}, "policy_not_demanded"),
        ({"version_min": 2}, "policy_not_demanded"),
        ({"attributes": {"site": "berlin"}}, "attribute_not_demanded"),
        ({"attributes": {"site": "delft", "floor": "1"}}, "attribute_not_demanded"),
        ({"attested_demands": {"site": "delft"}}, "attribute_not_attested"),
        ({"attributes": {"site": "delft"}, "attested": {"site": "berlin"}}, "attribute_not_demanded"),
        ({"attested": {"site": "delft"}, "attested_by": ("tvmm", 2)}, "policy_changed"),
        ({"attested": {"site": "delft"}, "attested_by": ("strict", 1)}, "policy_changed"),
    ],
)
async def test_the_node_must_be_what_the_ticket_demands(ready: Store, demand: dict[str, Any], reason: str) -> None:
    assert await refused(ready, **demand) == reason

    await ready.release(claim(attributes={"site": "delft"}))


async def test_a_ticket_is_used_once(ready: Store) -> None:
    await ready.release(claim())

    assert await refused(ready, nonce=2) == "ticket_used"
    assert await refused(ready, lease_id=lease_id(2)) == "ticket_used"
    await ready.end_vm(vm_end())
    assert await refused(ready) == "ticket_used"


async def test_the_same_boot_may_ask_again_after_a_lost_answer(ready: Store) -> None:
    first = await ready.release(claim())
    seq = await ready.last_seq()

    assert await ready.release(claim(at_ms=5_500)) == first
    assert await ready.last_seq() == seq
    await ready.admit(replace(lease("a", 3, 6_000), boot_id=b"another boot ..."))
    assert await refused(ready, lease_id=lease_id(3), at_ms=7_000) == "ticket_used"


async def test_a_vm_that_runs_is_not_released_by_another_ticket(ready: Store) -> None:
    await ready.release(claim())

    assert await refused(ready, ticket=2) == "vm_running"
    assert await refused(ready, ticket=2, lease_id=lease_id(2)) == "vm_running"


async def test_a_vm_belongs_to_its_tenant_for_ever(ready: Store) -> None:
    await ready.add_tenant(replace(TENANT, name="other", key=ek("other")))
    await ready.release(claim())
    await ready.end_vm(vm_end())

    assert await refused(ready, ticket=2, tenant_key=ek("other")) == "vm_of_another_tenant"


async def test_whoever_owns_a_vm_is_answered_whatever_was_said_of_tenant_and_node_since(ready: Store) -> None:
    """Told no, the node would forget it, and nobody else could have it as long as the node has its lease."""
    asked = claim(attributes={"site": "delft"})
    given = await ready.release(asked)
    await ready.remove_tenant("acme", 5_500)
    await ready.set_attributes(NodeName("a"), {"site": "paris"}, (), 5_500)

    assert await ready.release(replace(asked, at_ms=6_000)) == given
    # The controls: another question, evidence that is too old, a lease that is over.
    assert await refused(ready, nonce=2) == "tenant_unknown"
    await ready.add_tenant(TENANT)
    assert await refused(ready, evidence_since_ms=3_000) == "evidence_old"
    assert await refused(ready, at_ms=62_000) == "lease_expired"


async def test_a_vm_that_has_ended_is_released_again_with_the_next_epoch_and_its_disk(ready: Store) -> None:
    await ready.release(claim())
    seq = await ready.end_vm(vm_end(disk_root=ek("disk")))
    assert (await body_of_last(ready))["disk_root"] == ek("disk")
    assert (await ready.events())[-1].seq == seq

    record = await ready.release(claim(2, ticket=2, at_ms=6_000))

    assert (record.epoch, record.node, record.disk_root) == (2, NodeName("b"), ek("disk"))
    await ready.end_vm(vm_end(2, epoch=2, at_ms=7_000))
    again = await ready.vm(vm_id(1))
    assert again is not None
    assert again.disk_root == ek("disk")


async def test_only_the_owner_says_that_a_vm_has_ended_and_only_of_its_epoch(ready: Store) -> None:
    await ready.release(claim())
    for end, reason in [
        (vm_end(vm=2), "vm_unknown"),
        (vm_end(2), "vm_of_another_node"),
        (vm_end(epoch=2), "vm_epoch_over"),
    ]:
        with pytest.raises(ConflictError, match=reason):
            await ready.end_vm(end)

    assert await ready.end_vm(vm_end()) > 0
    assert await ready.end_vm(vm_end()) == 0


async def lapse(store: Store) -> None:
    await store.lapse_leases(62_000)


async def revoke(store: Store) -> None:
    await store.revoke_node(NodeName("a"), "sold", 10_000)


async def reboot(store: Store) -> None:
    await store.admit(replace(lease("a", 3, 10_000), boot_id=b"another boot ..."))


@pytest.mark.parametrize("lose", [lapse, revoke, reboot])
async def test_a_lost_vm_is_free_only_when_its_node_must_have_stopped_it(ready: Store, lose: Any) -> None:
    await ready.release(claim())

    await lose(ready)

    free_ms = 62_000 + STOP_GRACE_MS
    assert await state_of(ready) == (VmState.LOST, "a", free_ms)
    await ready.admit(lease("b", 4, free_ms - 1_000))
    assert await refused(ready, ticket=2, lease_id=lease_id(4), at_ms=free_ms - 1) == "vm_not_free"
    record = await ready.release(claim(4, ticket=2, at_ms=free_ms))
    assert (record.state, record.node, record.epoch) == (VmState.RUNNING, NodeName("b"), 2)


@pytest.mark.parametrize("lose", ["lapse", "revoke", "reboot", "lapsed before"])
@pytest.mark.parametrize("held", [True, False], ids=["held", "control"])
async def test_a_clock_that_was_set_forward_while_no_coordinator_ran_frees_no_vm(
    ready: Store, lose: str, held: bool
) -> None:
    """The last that the record knows is of 10 s, when 52 s of the lease were left; then it is called an hour later."""
    start_ms = 3_600_000
    await ready.release(claim())
    known_ms, left_ms = 10_000, 52_000
    if lose == "lapsed before":
        await ready.lapse_leases(known_ms := 63_000)
        left_ms = -1_000
    if held:
        await ready.hold_vms(known_ms, start_ms)

    if lose == "revoke":
        await ready.revoke_node(NodeName("a"), "sold", start_ms)
    elif lose == "reboot":
        await ready.admit(replace(lease("a", 3, start_ms), boot_id=b"another boot ..."))
    else:
        await ready.lapse_leases(start_ms)

    if not held:
        await ready.admit(lease("b", 4, start_ms))
        assert (await ready.release(claim(4, ticket=2, at_ms=start_ms))).node == NodeName("b")  # runs at both
        return
    free_ms = start_ms + left_ms + STOP_GRACE_MS
    assert await state_of(ready) == (VmState.LOST, "a", free_ms)
    await ready.admit(lease("b", 4, free_ms - 1_000))
    assert await refused(ready, ticket=2, lease_id=lease_id(4), at_ms=free_ms - 1) == "vm_not_free"
    await ready.release(claim(4, ticket=2, at_ms=free_ms))


async def test_starts_that_come_to_nothing_hold_a_vm_up_once_and_no_shorter(ready: Store) -> None:
    """Each is an hour after the one before; the second writes an event, the others nothing."""
    await ready.release(claim())
    await ready.release(claim(2, ticket=2, vm=2))
    await ready.revoke_node(NodeName("b"), "sold", 10_000)
    known_ms = 10_000

    for hour in (1, 2, 3):
        await ready.hold_vms(known_ms, hour * 3_600_000)
        if hour == 2:
            await ready.remove_tenant("acme", known_ms := hour * 3_600_000)
    await ready.lapse_leases(3 * 3_600_000)

    free_ms = 3 * 3_600_000 + 52_000 + STOP_GRACE_MS
    assert [record.free_ms for record in await ready.vms()] == [free_ms, free_ms]


async def test_a_start_holds_up_no_vm_that_nobody_can_be_running(ready: Store) -> None:
    await ready.release(claim())
    await ready.end_vm(vm_end())
    await ready.release(claim(vm=2, ticket=2))
    await ready.revoke_node(NodeName("a"), "sold", 7_000)
    (free_ms,) = {record.free_ms for record in await ready.vms() if record.state == VmState.LOST}
    before = await ready.vms()

    await ready.hold_vms(free_ms, free_ms + 1_000_000)

    assert await ready.vms() == before


async def test_a_vm_follows_its_node_to_a_new_lease_of_the_same_boot(ready: Store) -> None:
    await ready.release(claim())

    await ready.admit(lease("a", 3, 10_000))

    record = await ready.vm(vm_id(1))
    assert record is not None
    assert (record.state, record.lease_id) == (VmState.RUNNING, lease_id(3))
    await ready.revoke_node(NodeName("a"), "sold", 11_000)
    assert await state_of(ready) == (VmState.LOST, "a", 70_000 + STOP_GRACE_MS)


async def test_a_node_that_lost_its_lease_may_still_say_that_it_has_stopped(ready: Store) -> None:
    await ready.release(claim())
    await ready.lapse_leases(62_000)
    await ready.admit(lease("a", 3, 63_000))

    await ready.end_vm(vm_end(3, at_ms=63_500, disk_root=ek("disk")))

    assert await state_of(ready) == (VmState.ENDED, "a", 63_500)


async def test_many_who_ask_at_once_with_one_ticket_get_one_vm(database: Path) -> None:
    names = [f"n{number}" for number in range(40)]
    won: list[VmRecord] = []
    lost: list[str] = []

    async with open_store(database) as store:
        await prepare(store, *names)
        await store.add_tenant(TENANT)
        for number, name in enumerate(names):
            await store.admit(lease(name, number))

        async def ask(number: int) -> None:
            try:
                won.append(await store.release(claim(number, nonce=number)))
            except ConflictError as refusal:
                lost.append(refusal.reason)

        async with trio.open_nursery() as nursery:
            for number in range(len(names)):
                nursery.start_soon(ask, number)
        kinds = [event.kind for event in await store.events()]

    assert (len(won), lost) == (1, ["ticket_used"] * 39)
    assert kinds.count("release") == 1


async def test_ownership_and_used_tickets_survive_a_restart(database: Path) -> None:
    async with open_store(database) as store:
        await prepare(store, "a")
        await store.add_tenant(TENANT)
        await store.admit(lease("a", 1))
        record = await store.release(claim())
    async with open_store(database) as store:
        assert await store.vm(vm_id(1)) == record
        assert await refused(store, nonce=2) == "ticket_used"
