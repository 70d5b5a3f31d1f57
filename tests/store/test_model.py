"""Any sequence of operations gives what a few dictionaries give."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.model import NodeName
from tccp.store import ConflictError, EventDraft, LeaseRecord, NodeRecord, Store, open_store
from tccp.store.ownership import STOP_GRACE_MS
from tests.store.support import (
    POLICY,
    TENANT,
    claim,
    destruction,
    ek,
    lease,
    lease_id,
    node,
    policy,
    renew,
    renewal_of,
    suspension,
    vm_end,
    vm_id,
)

NAMES = st.sampled_from("abc")
LEASES = st.integers(0, 5)
TIMES = st.integers(1, 20).map(lambda minutes: minutes * 10_000)


@dataclass
class ModelVm:
    """Who owns a VM."""

    state: str
    lease: int
    node: str
    epoch: int
    ticket: int
    nonce: int
    free_ms: int = 0
    generation: int = 0
    saved: int = 0


@dataclass
class Model:
    """What the store ought to hold. Operations return None, or the reason of the refusal."""

    names: dict[str, bytes] = field(default_factory=dict)
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    leases: dict[int, LeaseRecord] = field(default_factory=dict)
    version: int = 0
    events: list[tuple[str, str | None, int]] = field(default_factory=list)
    tenant: bool = False
    vms: dict[int, ModelVm] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    def open_lease(self, name: str) -> int | None:
        found = [key for key, record in self.leases.items() if record.node.value == name and record.ended_ms is None]
        assert len(found) <= 1
        return found[0] if found else None

    def end(self, key: int | None, reason: str, at_ms: int) -> None:
        if key is not None:
            self.leases[key] = replace(self.leases[key], ended_ms=at_ms, end_reason=reason)
            self.events.append(("end", self.leases[key].node.value, at_ms))
            for vm in self.vms.values():
                if vm.state == "running" and vm.lease == key and reason != "replaced":
                    vm.state, vm.free_ms = "lost", max(at_ms, self.leases[key].expires_ms + STOP_GRACE_MS)

    def enrol(self, name: str, ek_of: str) -> str | None:
        if self.names.get(name, ek(ek_of)) != ek(ek_of):
            return "name_bound"
        if name not in self.names and ek(ek_of) in self.names.values():
            return "ek_bound"
        if name in self.nodes:
            return "node_exists"
        self.names[name] = ek(ek_of)
        self.nodes[name] = node(name, ek_of)
        self.events.append(("enrol", name, 1_000))
        return None

    def remove(self, name: str, at_ms: int) -> str | None:
        if name not in self.nodes:
            return "node_unknown"
        self.events.append(("remove", name, at_ms))
        self.end(self.open_lease(name), "removed", at_ms)
        del self.nodes[name]
        return None

    def revoke(self, name: str, at_ms: int) -> str | None:
        if name not in self.nodes:
            return "node_unknown"
        if self.nodes[name].revoked_ms is not None:
            return "node_revoked"
        self.nodes[name] = replace(self.nodes[name], revoked_ms=at_ms, revoke_reason="why")
        self.events.append(("revoke", name, at_ms))
        self.end(self.open_lease(name), "revoked", at_ms)
        return None

    def reinstate(self, name: str, at_ms: int) -> str | None:
        if name not in self.nodes:
            return "node_unknown"
        if self.nodes[name].revoked_ms is None:
            return "node_not_revoked"
        self.nodes[name] = replace(self.nodes[name], revoked_ms=None, revoke_reason=None)
        self.events.append(("reinstate", name, at_ms))
        return None

    def add_policy(self, version: int) -> str | None:
        if version <= self.version:
            return "policy_not_newer"
        self.version = version
        self.events.append(("policy", None, 500 + version))
        return None

    def admit(self, record: LeaseRecord) -> str | None:
        name = record.node.value
        if name not in self.nodes:
            return "node_unknown"
        if self.nodes[name].revoked_ms is not None:
            return "node_revoked"
        if not self.version:
            return "policy_unknown"
        if record.policy_version != self.version:
            return "policy_changed"
        self.end(self.open_lease(name), "replaced", record.issued_ms)
        key = int.from_bytes(record.lease_id, "big")
        self.leases[key] = record
        for vm in self.vms.values():
            if vm.state == "running" and vm.node == name:
                vm.lease = key
        self.events.append(("admit", name, record.issued_ms))
        return None

    def renew(self, key: int, at_ms: int, version: int) -> str | None:
        record = self.leases.get(key)
        if record is None:
            return "lease_unknown"
        if record.ended_ms is not None:
            return "lease_ended"
        if record.expires_ms <= at_ms:
            return "lease_expired"
        if record.clock_ms > 100 + at_ms:
            return "clock_went_back"
        if version != self.version:
            return "policy_changed"
        self.leases[key] = replace(
            record, renewed_ms=at_ms, expires_ms=at_ms + 60_000, clock_ms=100 + at_ms, policy_version=version
        )
        return None

    def set_tenant(self, *, wanted: bool, at_ms: int) -> str | None:
        if wanted == self.tenant:
            return "tenant_exists" if wanted else "tenant_unknown"
        self.tenant = wanted
        self.events.append(("tenant", None, TENANT.added_ms if wanted else at_ms))
        return None

    def may(self, key: int, at_ms: int) -> str | None:
        if not self.tenant:
            return "tenant_unknown"
        record = self.leases.get(key)
        if record is None or record.ended_ms is not None:
            return "lease_unknown" if record is None else "lease_ended"
        if record.expires_ms <= at_ms:
            return "lease_expired"
        if record.policy_version != self.version:
            return "policy_changed"
        if record.renewed_ms + 30_000 < at_ms:
            return "evidence_old"
        return None

    def release(self, key: int, ticket: int, vm: int, nonce: int, at_ms: int) -> str | None:
        if refusal := self.may(key, at_ms):
            return refusal
        record = self.leases[key]
        owned = self.vms.get(vm)
        if ticket in self.used:
            known = owned and (owned.ticket, owned.nonce, owned.node, owned.state)
            return None if known == (ticket, nonce, record.node.value, "running") else "ticket_used"
        if owned and owned.state in {"running", "destroyed"}:
            return f"vm_{owned.state}"
        if owned and owned.state == "suspended":
            return "vm_suspended"
        if owned and at_ms < owned.free_ms:
            return "vm_not_free"
        epoch = owned.epoch + 1 if owned else 1
        self.vms[vm] = ModelVm("running", key, record.node.value, epoch, ticket, nonce)
        self.used.add(ticket)
        self.events.append(("release", record.node.value, at_ms))
        return None

    def end_vm(self, key: int, vm: int, epoch: int, at_ms: int) -> str | None:
        owned = self.vms.get(vm)
        if owned is None:
            return "vm_unknown"
        if key not in self.leases or self.leases[key].node.value != owned.node:
            return "vm_of_another_node"
        if epoch != owned.epoch:
            return "vm_epoch_over"
        if owned.state in {"running", "lost"}:
            owned.state, owned.free_ms = "ended", at_ms
            self.events.append(("stop", owned.node, at_ms))
        return None

    def of_node(self, key: int, vm: int, epoch: int) -> str | None:
        owned = self.vms.get(vm)
        if owned is None:
            return "vm_unknown"
        if key not in self.leases or self.leases[key].node.value != owned.node:
            return "vm_of_another_node"
        return "vm_epoch_over" if epoch != owned.epoch else None

    def suspend(self, key: int, vm: int, epoch: int, state: int, at_ms: int) -> str | None:
        if refusal := self.of_node(key, vm, epoch):
            return refusal
        owned = self.vms[vm]
        if owned.state == "suspended" and owned.saved == state:
            return None
        if owned.state not in {"running", "lost"}:
            return "vm_not_running"
        owned.state, owned.free_ms, owned.generation, owned.saved = "suspended", at_ms, epoch, state
        self.events.append(("suspend", owned.node, at_ms))
        return None

    def destroy(self, key: int, vm: int, epoch: int, at_ms: int) -> str | None:
        if refusal := self.of_node(key, vm, epoch):
            return refusal
        if self.vms[vm].state != "destroyed":
            self.vms[vm].state = "destroyed"
            self.events.append(("destroy", self.vms[vm].node, at_ms))
        return None

    def resume(self, key: int, ticket: int, vm: int, state: int, at_ms: int) -> str | None:
        """Each time with a nonce of its own: nobody asks again."""
        if refusal := self.may(key, at_ms):
            return refusal
        owned = self.vms.get(vm)
        if owned is None:
            return "vm_unknown"
        if owned.ticket != ticket:
            return "another_ticket"
        if owned.saved not in {0, state}:
            return "state_old"
        if owned.state != "suspended":
            return "vm_not_suspended"
        node = self.leases[key].node.value
        self.vms[vm] = replace(owned, state="running", lease=key, node=node, epoch=owned.epoch + 1, nonce=0, free_ms=0)
        self.events.append(("resume", node, at_ms))
        return None

    def end_lease(self, key: int, at_ms: int) -> str | None:
        if key not in self.leases:
            return "lease_unknown"
        if self.leases[key].ended_ms is not None:
            return "lease_ended"
        self.end(key, "left", at_ms)
        return None


OPERATIONS = st.one_of(
    st.tuples(st.just("enrol"), NAMES, NAMES),
    st.tuples(st.just("remove"), NAMES, TIMES),
    st.tuples(st.just("revoke"), NAMES, TIMES),
    st.tuples(st.just("reinstate"), NAMES, TIMES),
    st.tuples(st.just("policy"), st.integers(1, 3)),
    st.tuples(st.just("admit"), NAMES, TIMES, st.integers(1, 2)),
    st.tuples(st.just("renew"), LEASES, TIMES, st.integers(1, 2)),
    st.tuples(st.just("end"), LEASES, TIMES),
    st.tuples(st.just("lapse"), TIMES),
    st.tuples(st.just("tenant"), st.booleans(), TIMES),
    st.tuples(st.just("release"), LEASES, st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), TIMES),
    st.tuples(st.just("vm end"), LEASES, st.integers(1, 2), st.integers(1, 2), TIMES),
    st.tuples(st.just("suspend"), LEASES, st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), TIMES),
    st.tuples(st.just("resume"), LEASES, st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), TIMES),
    st.tuples(st.just("destroy"), LEASES, st.integers(1, 2), st.integers(1, 3), TIMES),
    st.tuples(st.just("event"), TIMES),
)
Operation = tuple[str, *tuple[object, ...]]
# Most sequences begin with a node and a policy, or hardly any would get as far as a lease.
BEGINNING = [("policy", 1), ("enrol", "a", "a"), ("admit", "a", 10_000, 1)]
RELEASED = [*BEGINNING, ("tenant", True, 10_000), ("release", 0, 1, 1, 1, 10_000)]
SUSPENDED = [*RELEASED, ("suspend", 0, 1, 1, 1, 10_000)]
BEGINNINGS = st.sampled_from([[], BEGINNING, RELEASED, SUSPENDED])


async def apply(  # noqa: PLR0912
    store: Store, model: Model, operation: Operation, next_lease: int
) -> tuple[str | None, str | None]:
    """Do one operation to both; how each refused it."""
    match operation:
        case ["enrol", str(name), str(ek_of)]:
            expected = model.enrol(name, ek_of)
            doing = store.enrol_node(node(name, ek_of))
        case ["remove", str(name), int(at_ms)]:
            expected = model.remove(name, at_ms)
            doing = store.remove_node(NodeName(name), at_ms)
        case ["revoke", str(name), int(at_ms)]:
            expected = model.revoke(name, at_ms)
            doing = store.revoke_node(NodeName(name), "why", at_ms)
        case ["reinstate", str(name), int(at_ms)]:
            expected = model.reinstate(name, at_ms)
            doing = store.reinstate_node(NodeName(name), at_ms)
        case ["policy", int(version)]:
            expected = model.add_policy(version)
            doing = store.add_policy(policy(version))
        case ["admit", str(name), int(at_ms), int(version)]:
            record = lease(name, next_lease, at_ms, version)
            expected = model.admit(record)
            doing = store.admit(record)
        case ["renew", int(key), int(at_ms), int(version)]:
            expected = model.renew(key, at_ms, version)
            doing = renew(store, renewal_of(lease("a", key), at_ms, policy_version=version))
        case ["end", int(key), int(at_ms)]:
            expected = model.end_lease(key, at_ms)
            doing = store.end_lease(lease_id(key), "left", at_ms)
        case ["lapse", int(at_ms)]:
            lapsed = await store.lapse_leases(at_ms)
            for identity, _ in lapsed:
                model.end(int.from_bytes(identity, "big"), "lapsed", at_ms)
            assert all(record.ended_ms or record.expires_ms > at_ms for record in model.leases.values())
            return None, None
        case ["tenant", bool(wanted), int(at_ms)]:
            expected = model.set_tenant(wanted=wanted, at_ms=at_ms)
            doing = store.add_tenant(TENANT) if wanted else store.remove_tenant(TENANT.name, at_ms)
        case ["release", int(key), int(ticket), int(vm), int(nonce), int(at_ms)]:
            expected = model.release(key, ticket, vm, nonce, at_ms)
            since_ms = max(at_ms - 30_000, 0)
            asked = claim(key, ticket=ticket, vm=vm, nonce=nonce, at_ms=at_ms, evidence_since_ms=since_ms)
            doing = store.release(asked)
        case ["vm end", int(key), int(vm), int(epoch), int(at_ms)]:
            expected = model.end_vm(key, vm, epoch, at_ms)
            doing = store.end_vm(vm_end(key, vm=vm, epoch=epoch, at_ms=at_ms))
        case ["suspend", int(key), int(vm), int(epoch), int(state), int(at_ms)]:
            expected = model.suspend(key, vm, epoch, state, at_ms)
            doing = store.suspend_vm(suspension(key, vm=vm, epoch=epoch, state=state, at_ms=at_ms))
        case ["resume", int(key), int(ticket), int(vm), int(state), int(at_ms)]:
            expected = model.resume(key, ticket, vm, state, at_ms)
            since_ms, root = max(at_ms - 30_000, 0), ek(f"state {state}")
            asked = claim(key, ticket=ticket, vm=vm, at_ms=at_ms, evidence_since_ms=since_ms, state_root=root)
            doing = store.resume(replace(asked, nonce=ek(f"resume {len(model.events)}")))
        case ["destroy", int(key), int(vm), int(epoch), int(at_ms)]:
            expected = model.destroy(key, vm, epoch, at_ms)
            doing = store.destroy_vm(destruction(key, vm=vm, epoch=epoch, at_ms=at_ms))
        case _:
            model.events.append(("refuse", None, 7))
            expected, doing = None, store.append_event(EventDraft(7, "refuse"))
    try:
        await doing
    except ConflictError as error:
        return error.reason, expected
    return None, expected


async def compare(store: Store, model: Model) -> None:
    assert await store.list_nodes() == [model.nodes[name] for name in sorted(model.nodes)]
    for name in "abc":
        key = model.open_lease(name)
        assert await store.open_lease(NodeName(name)) == (None if key is None else model.leases[key])
        assert await store.node_by_name(NodeName(name)) == model.nodes.get(name)
        by_ek = [record for record in model.nodes.values() if record.ek_id == ek(name)]
        assert await store.node_by_ek(ek(name)) == (by_ek[0] if by_ek else None)
    for key, record in model.leases.items():
        assert await store.lease(lease_id(key)) == record
    found = {
        record.vm_id: (
            record.state,
            record.node.value,
            record.epoch,
            record.free_ms,
            record.lease_id,
            record.generation,
        )
        for record in await store.vms()
    }
    assert found == {
        vm_id(key): (vm.state, vm.node, vm.epoch, vm.free_ms, lease_id(vm.lease), vm.generation)
        for key, vm in model.vms.items()
    }
    events = await store.events()
    assert [(event.kind, event.node and event.node.value, event.at_ms) for event in events] == model.events
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    counts = await store.counts()
    assert counts.nodes == len(model.nodes)
    assert counts.revoked_nodes == sum(record.revoked_ms is not None for record in model.nodes.values())
    assert counts.open_leases == sum(record.ended_ms is None for record in model.leases.values())
    in_force = await store.policy(POLICY)
    assert (in_force.version if in_force else 0) == model.version


@settings(max_examples=60, deadline=None)
@given(BEGINNINGS, st.lists(OPERATIONS, max_size=30), st.booleans())
def test_a_store_is_what_its_history_makes_it(
    beginning: list[Operation], operations: list[Operation], reopen: bool
) -> None:
    async def run(database: Path) -> None:
        model = Model()
        async with open_store(database) as store:
            for operation in [*beginning, *operations]:
                found, expected = await apply(store, model, operation, len(model.leases))
                assert found == expected, operation
            await compare(store, model)
        if reopen:
            async with open_store(database) as store:
                await compare(store, model)

    with tempfile.TemporaryDirectory() as folder:
        trio.run(run, Path(folder) / "coordinator.db")
