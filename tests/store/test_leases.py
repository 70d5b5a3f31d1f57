"""Admission, renewal, and every way in which a lease ends."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec.msgpack
import pytest

from tccp.model import NodeName
from tccp.store import ConflictError, Store, open_store
from tccp.store.transactions import LAPSES_PER_TRANSACTION, LEASES_FORGOTTEN_AT_ONCE, LEASES_KEPT
from tests.store.support import POLICY, TENANT, claim, lease, lease_id, node, policy, prepare, renew, renewal_of, vm_end

A = NodeName("a")


async def test_an_admitted_node_has_an_open_lease(store: Store) -> None:
    await prepare(store, "a", "b")
    record = replace(lease("a", 1), clock_ms=(1 << 64) - 1, reset_count=(1 << 32) - 1)

    seq = await store.admit(record, b"verdict")

    assert await store.open_lease(A) == record
    assert await store.lease(record.lease_id) == record
    assert await store.open_leases() == [record]
    assert await store.open_lease(NodeName("b")) is None
    event = (await store.events())[-1]
    assert (event.seq, event.kind, event.node, event.body) == (seq, "admit", A, b"verdict")


async def test_only_an_enrolled_node_is_admitted(store: Store) -> None:
    await store.add_policy(policy())

    with pytest.raises(ConflictError, match="node_unknown"):
        await store.admit(lease("a", 1))

    assert await store.counts() == replace(await store.counts(), open_leases=0, last_seq=1)


async def test_nothing_configured_is_nothing_admitted(store: Store) -> None:
    await store.enrol_node(node("a"))

    with pytest.raises(ConflictError, match="policy_unknown"):
        await store.admit(lease("a", 1))


async def test_a_verdict_under_an_older_policy_admits_nobody(store: Store) -> None:
    await prepare(store, "a")
    await store.add_policy(policy(version=2))

    with pytest.raises(ConflictError, match=r"policy_changed.*version 1.*version 2"):
        await store.admit(lease("a", 1, policy_version=1))
    with pytest.raises(ConflictError, match="policy_changed"):
        await store.admit(replace(lease("a", 1), policy="lenient"))

    await store.admit(lease("a", 1, policy_version=2))


async def test_a_new_lease_replaces_the_older_one(store: Store) -> None:
    await prepare(store, "a")
    await store.admit(lease("a", 1))
    await store.admit(lease("a", 2, issued_ms=9_000))

    assert await store.open_leases() == [lease("a", 2, issued_ms=9_000)]
    older = replace(lease("a", 1), ended_ms=9_000, end_reason="replaced")
    assert await store.lease(lease_id(1)) == older
    with pytest.raises(ConflictError, match=r"lease_ended.*replaced"):
        await renew(store, renewal_of(older, 10_000))
    end, admitted = (await store.events())[-2:]
    assert (end.kind, end.node, end.at_ms) == ("end", A, 9_000)
    assert msgspec.msgpack.decode(end.body) == {"lease_id": lease_id(1), "reason": "replaced"}
    assert admitted.kind == "admit"


async def test_the_database_itself_allows_one_open_lease_a_node(database: Path) -> None:
    async with open_store(database) as store:
        await prepare(store, "a")
        await store.admit(lease("a", 1))
        await store.admit(lease("a", 2))
    connection = sqlite3.connect(database)

    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: open_lease\.node"):
        connection.execute("INSERT INTO open_lease VALUES (zeroblob(16), 'a', 'tvmm', 1, 1, 2, 0, 0, zeroblob(8))")

    connection.close()


async def test_a_renewed_lease_holds_longer(store: Store) -> None:
    await prepare(store, "a")
    record = lease("a", 1)
    await store.admit(record)
    before = await store.last_seq()

    await renew(store, renewal_of(record, 50_000))

    assert await store.open_lease(A) == replace(record, renewed_ms=50_000, expires_ms=110_000, clock_ms=50_100)
    assert await store.last_seq() == before


@pytest.mark.parametrize(
    ("at_ms", "changes", "reason"),
    [
        (62_000, {}, "lease_expired"),
        (1 << 62, {}, "lease_expired"),
        (50_000, {"reset_count": 8}, "counters_moved"),
        (50_000, {"restart_count": 4}, "counters_moved"),
        (50_000, {"reset_count": 6}, "counters_moved"),
        (50_000, {"clock_ms": 99}, "clock_went_back"),
        (50_000, {"policy": "lenient"}, "policy_changed"),
        (50_000, {"policy_version": 2}, "policy_changed"),
    ],
)
async def test_a_renewal_is_refused(store: Store, at_ms: int, changes: dict[str, Any], reason: str) -> None:
    await prepare(store, "a")
    record = lease("a", 1)
    await store.admit(record)

    with pytest.raises(ConflictError, match=reason):
        await renew(store, renewal_of(record, at_ms, **changes))

    assert await store.open_lease(A) == record


async def test_many_renewals_in_one_transaction_each_have_a_verdict(store: Store) -> None:
    names = [f"n{number}" for number in range(200)]
    await store.add_policy(policy())
    await store.import_nodes([(node(name), b"") for name in names])
    records = [lease(name, number) for number, name in enumerate(names)]
    for record in records:
        await store.admit(record)
    await store.end_lease(lease_id(7), "left", 3_000)
    late, unknown = {150: 62_000}, {190: lease_id(1 << 20)}

    verdicts = await store.renew_all(
        [
            renewal_of(record, late.get(number, 50_000), lease_id=unknown.get(number, record.lease_id))
            for number, record in enumerate(records)
        ]
    )

    refused = {number: verdict.reason for number, verdict in enumerate(verdicts) if verdict is not None}
    assert refused == {7: "lease_ended", 150: "lease_expired", 190: "lease_unknown"}
    renewed = {record.node.value: record.renewed_ms for record in await store.open_leases()}
    assert renewed == {
        name: 2_000 if number in {150, 190} else 50_000 for number, name in enumerate(names) if number != 7
    }
    assert await store.renew_all([]) == []


async def test_of_two_renewals_of_a_lease_in_one_transaction_the_later_one_holds(store: Store) -> None:
    await prepare(store, "a", "b")
    await store.admit(lease("a", 1))
    await store.admit(lease("b", 2))

    verdicts = await store.renew_all(
        [renewal_of(lease(name, number), at_ms) for at_ms in (9_000, 10_000) for name, number in (("a", 1), ("b", 2))]
    )

    assert verdicts == [None] * 4
    assert [record.renewed_ms for record in await store.open_leases()] == [10_000, 10_000]


async def test_a_lease_is_renewed_under_the_policy_in_force(store: Store) -> None:
    await prepare(store, "a")
    record = lease("a", 1)
    await store.admit(record)
    await store.add_policy(policy(version=2))

    with pytest.raises(ConflictError, match=r"policy_changed.*version 1.*version 2"):
        await renew(store, renewal_of(record, 10_000))
    await renew(store, renewal_of(record, 11_000, policy_version=2))

    renewed = await store.open_lease(A)
    assert renewed is not None
    assert (renewed.policy_version, renewed.renewed_ms) == (2, 11_000)


async def test_a_clock_pushed_to_its_end_cannot_come_back(store: Store) -> None:
    # Whoever owns a TPM may set its clock to nearly 2^64 (TPM2_ClockSet): a signed column would take that for the past.
    await prepare(store, "a")
    record = lease("a", 1)
    await store.admit(record)

    await renew(store, renewal_of(record, 10_000, clock_ms=(1 << 64) - 1))

    with pytest.raises(ConflictError, match="clock_went_back"):
        await renew(store, renewal_of(record, 11_000))


async def test_an_unknown_lease_is_not_renewed(store: Store) -> None:
    with pytest.raises(ConflictError, match="lease_unknown"):
        await renew(store, renewal_of(lease("a", 1), 10_000))


async def test_a_lease_is_ended_once(store: Store) -> None:
    await prepare(store, "a")
    await store.admit(lease("a", 1))

    seq = await store.end_lease(lease_id(1), "left", 7_000)

    assert await store.lease(lease_id(1)) == replace(lease("a", 1), ended_ms=7_000, end_reason="left")
    assert (await store.events())[-1].seq == seq
    with pytest.raises(ConflictError, match=r"lease_ended.*left"):
        await store.end_lease(lease_id(1), "left", 8_000)
    with pytest.raises(ConflictError, match="lease_unknown"):
        await store.end_lease(lease_id(2), "left", 8_000)


async def test_a_lease_lapses_at_its_end_and_not_before(store: Store) -> None:
    await prepare(store, "a", "b")
    await store.admit(lease("a", 1))
    await store.admit(lease("b", 2))
    await renew(store, renewal_of(lease("b", 2), 10_000))

    assert await store.lapse_leases(61_999) == []
    assert await store.lapse_leases(62_000) == [(lease_id(1), A)]

    assert await store.open_lease(A) is None
    lapsed = await store.lease(lease_id(1))
    assert lapsed is not None
    assert (lapsed.ended_ms, lapsed.end_reason) == (62_000, "lapsed")
    assert [record.node for record in await store.open_leases()] == [NodeName("b")]


async def test_any_number_of_leases_lapses(store: Store) -> None:
    names = [f"n{number}" for number in range(2 * LAPSES_PER_TRANSACTION + 1)]
    await store.add_policy(policy())
    await store.import_nodes([(node(name), b"") for name in names])
    for number, name in enumerate(names):
        await store.admit(lease(name, number))

    lapsed = await store.lapse_leases(1_000_000)

    assert len(lapsed) == len(names)
    assert await store.open_leases() == []


async def test_a_policy_grows_by_newer_versions_only(store: Store) -> None:
    await store.add_policy(policy(version=3))
    for version in (1, 3):
        with pytest.raises(ConflictError, match="policy_not_newer"):
            await store.add_policy(policy(version))
    await store.add_policy(policy(version=7))
    await store.add_policy(policy(name="another"))

    assert await store.policies() == [policy(name="another"), policy(version=7)]
    assert await store.policy(POLICY) == policy(version=7)
    assert await store.policy(POLICY, 3) == policy(version=3)
    assert await store.policy(POLICY, 1) is None
    assert await store.policy("nothing") is None
    assert await store.policy_versions(POLICY) == [policy(version=3), policy(version=7)]


async def test_old_leases_are_forgotten_but_those_of_vms_and_the_newest(store: Store) -> None:
    await prepare(store, "a", "b")
    await store.add_tenant(TENANT)
    await store.admit(lease("b", 0))
    of_vm, last = 2, LEASES_KEPT + 5
    for number in range(1, last + 1):
        await store.admit(lease("a", number, issued_ms=2_000 + number))
        if number == of_vm:
            await store.release(claim(of_vm))
            await store.end_vm(vm_end(of_vm))

    kept = [number for number in range(last + 1) if await store.lease(lease_id(number)) is not None]

    assert kept == [0, of_vm, *range(last - LEASES_KEPT, last + 1)]
    assert [record.lease_id for record in await store.leases_of(A, 2)] == [lease_id(last - 1), lease_id(last - 2)]
    assert len([event for event in await store.events(limit=1_000) if event.kind == "admit"]) == last + 1


async def test_a_database_that_kept_all_leases_forgets_the_oldest_bit_by_bit(database: Path) -> None:
    async with open_store(database) as store:
        await prepare(store, "a")
        await store.admit(lease("a", 0, issued_ms=2_000))
    old = 2 * LEASES_FORGOTTEN_AT_ONCE + LEASES_KEPT
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(lease)")]
        copied = ", ".join({"lease_id": "?", "issued_ms": "?"}.get(name, name) for name in columns)
        connection.execute(
            "UPDATE lease SET policy = 'p', policy_version = 1, renewed_ms = 2, expires_ms = 3,"
            " reset_count = 1, restart_count = 1, clock = x'0000000000000001', ended_ms = 4, end_reason = 'left'"
        )
        connection.execute("DELETE FROM open_lease")
        connection.executemany(
            f"INSERT INTO lease SELECT {copied} FROM lease WHERE issued_ms = 2000",  # noqa: S608 our own columns
            [(lease_id(number), 2_000 + number) for number in range(1, old)],
        )

    async def kept_after(newest: int) -> list[int]:
        await store.admit(lease("a", newest, issued_ms=2_000 + newest))
        return [number for number in range(newest) if await store.lease(lease_id(number)) is not None]

    async with open_store(database) as store:
        assert await kept_after(old) == list(range(LEASES_FORGOTTEN_AT_ONCE, old))
        assert await kept_after(old + 1) == list(range(2 * LEASES_FORGOTTEN_AT_ONCE, old + 1))
        assert await kept_after(old + 2) == list(range(old + 2 - LEASES_KEPT, old + 2))


async def test_a_lease_that_was_forgotten_is_as_unknown_as_one_that_never_was(store: Store) -> None:
    await prepare(store, "a")
    for number in range(LEASES_KEPT + 2):
        await store.admit(lease("a", number, issued_ms=2_000 + number))

    with pytest.raises(ConflictError, match="lease_unknown"):
        await renew(store, renewal_of(lease("a", 0), 10_000))
    with pytest.raises(ConflictError, match=r"lease_ended.*replaced"):
        await renew(store, renewal_of(lease("a", 1), 10_000))
