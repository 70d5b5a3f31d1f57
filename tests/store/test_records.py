"""A record that exists is one that the database can hold."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tccp.model import NodeName
from tccp.store import EventDraft, PolicyRecord, Store
from tccp.store.records import ATTRIBUTES_MAX, EVENT_BODY_BYTES_MAX, META_BYTES_MAX
from tests.store.support import lease, node, policy, prepare, renewal_of


@pytest.mark.parametrize(
    "changes",
    [
        {"ek_id": bytes(31)},
        {"ek_id": bytes(33)},
        {"ek_public": bytes(8_193)},
        {"policy": ""},
        {"policy": "p" * 257},
        {"enrolled_ms": -1},
        {"enrolled_ms": 1 << 63},
        {"revoked_ms": 1},
        {"revoke_reason": "reason"},
        {"revoked_ms": 1, "revoke_reason": ""},
        {"attributes": {str(number): "" for number in range(ATTRIBUTES_MAX + 1)}},
        {"attributes": {"": "value"}},
        {"attributes": {"key": "v" * 257}},
    ],
)
def test_a_node_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(node("a"), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"lease_id": bytes(15)},
        {"boot_id": bytes(17)},
        {"ak_name": b""},
        {"ak_name": bytes(67)},
        {"tls_spki_sha256": bytes(20)},
        {"identity": b""},
        {"identity": bytes(65_537)},
        {"issued_ms": -1},
        {"expires_ms": 2_000},
        {"expires_ms": 1 << 63},
        {"reset_count": 1 << 32},
        {"restart_count": -1},
        {"clock_ms": 1 << 64},
        {"ended_ms": 1},
        {"end_reason": "left"},
    ],
)
def test_a_lease_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(lease("a", 1), **changes)


@pytest.mark.parametrize(
    "changes",
    [{"lease_id": b""}, {"at_ms": -1}, {"expires_ms": 9_000}, {"clock_ms": -1}, {"reset_count": 1 << 32}],
)
def test_a_renewal_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        renewal_of(lease("a", 1), 9_000, **changes)


def test_a_policy_carries_the_digest_of_its_body() -> None:
    with pytest.raises(ValueError, match="sha256"):
        PolicyRecord("p", 1, b"body", hashlib.sha256(b"another").digest(), 1)
    with pytest.raises(ValueError, match="count from 1"):
        policy(version=0)


def test_an_event_fits_into_the_log() -> None:
    EventDraft(0, "refuse", None, bytes(EVENT_BODY_BYTES_MAX))
    with pytest.raises(ValueError):
        EventDraft(0, "refuse", None, bytes(EVENT_BODY_BYTES_MAX + 1))
    with pytest.raises(ValueError):
        EventDraft(0, "")


async def test_an_operation_refuses_what_no_event_can_hold_before_it_writes(store: Store) -> None:
    await prepare(store, "a")
    before = await store.events()
    too_long = bytes(EVENT_BODY_BYTES_MAX + 1)

    with pytest.raises(ValueError):
        await store.enrol_node(node("b"), too_long)
    with pytest.raises(ValueError):
        await store.import_nodes([(node("b"), b""), (node("c"), too_long)])
    with pytest.raises(ValueError):
        await store.admit(lease("a", 1), too_long)
    with pytest.raises(ValueError):
        await store.admit(replace(lease("a", 1), ended_ms=1, end_reason="left"))
    with pytest.raises(ValueError):
        await store.revoke_node(NodeName("a"), "", 1)
    with pytest.raises(ValueError):
        await store.revoke_node(NodeName("a"), "reason", -1)
    with pytest.raises(ValueError):
        await store.set_meta("key", bytes(META_BYTES_MAX + 1))

    assert await store.events() == before


async def test_a_small_value_is_kept_under_its_key(store: Store) -> None:
    assert await store.meta("signing key") is None

    await store.set_meta("signing key", b"one")
    await store.set_meta("signing key", b"two")

    assert await store.meta("signing key") == b"two"
    assert await store.last_seq() == 0
