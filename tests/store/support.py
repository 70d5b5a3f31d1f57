"""Records for tests, each right as it is."""

import hashlib
from dataclasses import replace
from typing import Any

from tccp.model import NodeName
from tccp.store import (
    KeyClaim,
    LeaseRecord,
    NodeRecord,
    PolicyRecord,
    Renewal,
    Store,
    TenantRecord,
    VmDestruction,
    VmEnd,
    VmSuspension,
)

POLICY = "tvmm"


def ek(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def node(name: str, ek_of: str | None = None) -> NodeRecord:
    return NodeRecord(
        NodeName(name), ek(ek_of or name), POLICY, enrolled_ms=1_000, ek_public=b"public area of " + name.encode()
    )


def policy(version: int = 1, name: str = POLICY) -> PolicyRecord:
    body = f"version = {version}".encode()
    return PolicyRecord(name, version, body, hashlib.sha256(body).digest(), added_ms=500 + version)


def lease_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def lease(name: str, number: int, issued_ms: int = 2_000, policy_version: int = 1) -> LeaseRecord:
    return LeaseRecord(
        lease_id=lease_id(number),
        node=NodeName(name),
        boot_id=b"boot of the node",
        ak_name=b"\x00\x0b" + ek(name),
        tls_spki_sha256=ek(f"tls {name}"),
        identity=b"identity statement of " + name.encode(),
        policy=POLICY,
        policy_version=policy_version,
        issued_ms=issued_ms,
        renewed_ms=issued_ms,
        expires_ms=issued_ms + 60_000,
        reset_count=7,
        restart_count=3,
        clock_ms=100,
    )


def renewal_of(record: LeaseRecord, at_ms: int, /, **changes: Any) -> Renewal:
    renewal = Renewal(
        record.lease_id,
        at_ms,
        at_ms + 60_000,
        record.reset_count,
        record.restart_count,
        record.clock_ms + at_ms,
        record.policy,
        record.policy_version,
    )
    return replace(renewal, **changes)


async def renew(store: Store, renewal: Renewal) -> None:
    """Renew one lease.

    Raises:
        ConflictError: It may not be renewed.
    """
    (refusal,) = await store.renew_all([renewal])
    if refusal is not None:
        raise refusal


async def prepare(store: Store, *names: str) -> None:
    """A policy, and nodes that it judges."""
    await store.add_policy(policy())
    for name in names:
        await store.enrol_node(node(name))


TENANT = TenantRecord("acme", ek("tenant"), added_ms=400)


def vm_id(number: int) -> bytes:
    return number.to_bytes(16, "little")


def claim(
    lease: int = 1, /, *, ticket: int = 1, vm: int = 1, nonce: int = 1, at_ms: int = 5_000, **changes: Any
) -> KeyClaim:
    plain = KeyClaim(
        ticket=ek(f"ticket {ticket}"),
        tenant_key=TENANT.key,
        vm_id=vm_id(vm),
        images=b"roots",
        policy=POLICY,
        version_min=1,
        lease_id=lease_id(lease),
        nonce=ek(f"nonce {nonce}"),
        at_ms=at_ms,
        evidence_since_ms=0,
    )
    return replace(plain, **changes)


def vm_end(lease: int = 1, /, *, vm: int = 1, epoch: int = 1, at_ms: int = 6_000, **changes: Any) -> VmEnd:
    return replace(VmEnd(vm_id(vm), epoch, lease_id(lease), None, "shut_down", at_ms), **changes)


def suspension(
    lease: int = 1, /, *, vm: int = 1, epoch: int = 1, state: int = 1, at_ms: int = 6_000, **changes: Any
) -> VmSuspension:
    plain = VmSuspension(vm_id(vm), epoch, epoch, lease_id(lease), ek(f"state {state}"), None, at_ms)
    return replace(plain, **changes)


def destruction(lease: int = 1, /, *, vm: int = 1, epoch: int = 1, at_ms: int = 6_000) -> VmDestruction:
    return VmDestruction(vm_id(vm), epoch, lease_id(lease), ek("statement"), ek("identity"), at_ms)
