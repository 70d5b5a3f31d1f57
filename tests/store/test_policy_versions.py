"""Versions in the shadow of the one in force: kept, told in the log, and put in force by one transaction."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from tccp.store import ConflictError, EventRecord, PolicyRecord, Store, open_store

FIRST, SECOND, OTHER = b"version one", b"version two", b"also version two"


def record(body: bytes, version: int, *, name: str = "tvmm", at_ms: int = 1_000) -> PolicyRecord:
    return PolicyRecord(name, version, body, hashlib.sha256(body).digest(), at_ms)


async def told(store: Store) -> list[tuple[str, dict[str, object]]]:
    """Kinds and bodies of the events."""
    events: list[EventRecord] = await store.events()
    return [(event.kind, msgspec.msgpack.decode(event.body) if event.body else {}) for event in events]


async def test_a_shadow_is_there_after_a_restart_and_is_not_in_force(tmp_path: Path) -> None:
    async with open_store(tmp_path / "db") as store:
        await store.add_policy(record(FIRST, 1))
        await store.set_shadow(record(SECOND, 2, at_ms=2_000))
    async with open_store(tmp_path / "db") as store:
        assert await store.shadows() == [record(SECOND, 2, at_ms=2_000)]
        assert await store.policies() == [record(FIRST, 1)]
        assert await store.policy("tvmm", 2) is None


async def test_a_shadow_is_set_promoted_and_dropped_in_the_log(store: Store) -> None:
    await store.add_policy(record(FIRST, 1))
    await store.set_shadow(record(OTHER, 2))
    await store.drop_shadow("tvmm", 2_000)
    await store.set_shadow(record(SECOND, 2, at_ms=3_000))
    await store.promote_shadow("tvmm", hashlib.sha256(SECOND).digest(), 4_000)

    events = await told(store)
    assert [(kind, body.get("what")) for kind, body in events[1:]] == [
        ("shadow", "set"),
        ("shadow", "dropped"),
        ("shadow", "set"),
        ("policy", None),
    ]
    assert events[-1][1] == {
        "policy": "tvmm",
        "version": 2,
        "sha256": hashlib.sha256(SECOND).digest(),
        "shadow_since_ms": 3_000,
    }
    assert await store.policies() == [record(SECOND, 2, at_ms=4_000)]
    assert await store.shadows() == []


async def test_only_the_version_that_is_meant_is_promoted(store: Store) -> None:
    await store.add_policy(record(FIRST, 1))
    await store.set_shadow(record(SECOND, 2))
    await store.set_shadow(record(OTHER, 2))

    with pytest.raises(ConflictError, match="shadow_changed"):
        await store.promote_shadow("tvmm", hashlib.sha256(SECOND).digest(), 2_000)
    assert [each.body for each in await store.shadows()] == [OTHER]
    assert [each.version for each in await store.policies()] == [1]


async def test_a_shadow_is_newer_than_what_is_in_force(store: Store) -> None:
    with pytest.raises(ConflictError, match="policy_unknown"):
        await store.set_shadow(record(SECOND, 2))
    await store.add_policy(record(FIRST, 2))
    with pytest.raises(ConflictError, match="policy_not_newer"):
        await store.set_shadow(record(SECOND, 2))
    assert await store.shadows() == []


async def test_a_version_that_overtakes_a_shadow_ends_it_and_an_older_one_does_not(store: Store) -> None:
    await store.add_policy(record(FIRST, 1))
    await store.set_shadow(record(OTHER, 3))
    await store.add_policy(record(SECOND, 2))
    assert [each.version for each in await store.shadows()] == [3]

    await store.add_policy(record(b"three", 3))
    assert await store.shadows() == []
    kind, body = (await told(store))[-1]
    assert (kind, body["what"], body["sha256"]) == ("shadow", "overtaken", hashlib.sha256(OTHER).digest())


async def test_what_is_not_there_is_neither_promoted_nor_dropped(store: Store) -> None:
    await store.add_policy(record(FIRST, 1))
    with pytest.raises(ConflictError, match="no_shadow"):
        await store.promote_shadow("tvmm", bytes(32), 2_000)
    with pytest.raises(ConflictError, match="no_shadow"):
        await store.drop_shadow("tvmm", 2_000)
