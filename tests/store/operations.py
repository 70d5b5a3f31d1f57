"""Operations on a store, each with what a model makes of it; and sequences of them."""

from dataclasses import replace

from hypothesis import strategies as st

from tccp.model import NodeName
from tccp.store import ConflictError, EventDraft, MoveArrival, MoveWord, Store
from tests.store.support import (
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
from tests.store.vm_model import Model

NAMES = st.sampled_from("abc")
LEASES = st.integers(0, 5)
TIMES = st.integers(1, 20).map(lambda minutes: minutes * 10_000)
BOOTS = st.sampled_from([1, 1, 1, 2])
VMS = NONCES = st.integers(1, 2)
EPOCHS = st.integers(1, 3)

OPERATIONS = st.one_of(
    st.tuples(st.just("enrol"), NAMES, NAMES),
    st.tuples(st.just("remove"), NAMES, TIMES),
    st.tuples(st.just("revoke"), NAMES, TIMES),
    st.tuples(st.just("reinstate"), NAMES, TIMES),
    st.tuples(st.just("policy"), st.integers(1, 3)),
    st.tuples(st.just("admit"), NAMES, TIMES, st.integers(1, 2), BOOTS),
    st.tuples(st.just("renew"), LEASES, TIMES, st.integers(1, 2)),
    st.tuples(st.just("end"), LEASES, TIMES),
    st.tuples(st.just("lapse"), TIMES),
    st.tuples(st.just("tenant"), st.booleans(), TIMES),
    st.tuples(st.just("release"), LEASES, st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), TIMES),
    st.tuples(st.just("vm end"), LEASES, st.integers(1, 2), st.integers(1, 2), TIMES),
    st.tuples(st.just("suspend"), LEASES, st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), TIMES),
    st.tuples(st.just("resume"), LEASES, st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), TIMES),
    st.tuples(st.just("destroy"), LEASES, st.integers(1, 2), st.integers(1, 3), TIMES),
    st.tuples(st.just("prepare"), LEASES, st.integers(1, 2), VMS, NONCES, TIMES),
    st.tuples(st.just("arrive"), LEASES, VMS, EPOCHS, NONCES),
    st.tuples(st.sampled_from(["commit", "abort"]), LEASES, VMS, EPOCHS, NONCES, TIMES),
    st.tuples(st.just("event"), TIMES),
)
Operation = tuple[str, *tuple[object, ...]]
# Most sequences begin with a node and a policy, or hardly any would get as far as a lease.
BEGINNING = [("policy", 1), ("enrol", "a", "a"), ("admit", "a", 10_000, 1, 1)]
RELEASED = [*BEGINNING, ("tenant", True, 10_000), ("release", 0, 1, 1, 1, 10_000)]
SUSPENDED = [*RELEASED, ("suspend", 0, 1, 1, 1, 10_000)]
MOVING = [*RELEASED, ("enrol", "b", "b"), ("admit", "b", 10_000, 1, 1), ("prepare", 1, 1, 1, 1, 10_000)]
ARRIVED = [*MOVING, ("arrive", 1, 1, 2, 1)]
MOVED = [*ARRIVED, ("commit", 0, 1, 1, 1, 10_000)]
BEGINNINGS = st.sampled_from([[], BEGINNING, RELEASED, SUSPENDED, MOVING, ARRIVED, MOVED])


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
        case ["admit", str(name), int(at_ms), int(version), int(boot)]:
            record = replace(lease(name, next_lease, at_ms, version), boot_id=f"boot {boot} of a node".encode())
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
        case ["prepare", int(key), int(ticket), int(vm), int(nonce), int(at_ms)]:
            expected = model.prepare(key, ticket, vm, nonce, at_ms)
            since_ms = max(at_ms - 30_000, 0)
            asked = claim(key, ticket=ticket, vm=vm, nonce=nonce, at_ms=at_ms, evidence_since_ms=since_ms)
            doing = store.prepare_move(asked, "there:1")
        case ["arrive", int(key), int(vm), int(epoch), int(nonce)]:
            expected = model.arrive(key, vm, epoch, nonce)
            doing = store.arrive(MoveArrival(vm_id(vm), epoch, ek(f"nonce {nonce}"), lease_id(key), b""))
        case [str(what), int(key), int(vm), int(epoch), int(nonce), int(at_ms)]:
            wiped = ek("wiped") if what == "commit" else bytes(32)
            said = MoveWord(vm_id(vm), epoch, ek(f"nonce {nonce}"), lease_id(key), wiped, at_ms)
            if what == "commit":
                expected = model.commit(key, vm, epoch, nonce, at_ms)
                doing = store.commit_move(said)
            else:
                expected = model.abort(key, vm, epoch, nonce, at_ms)
                doing = store.abort_move(said)
        case _:
            model.events.append(("refuse", None, 7))
            expected, doing = None, store.append_event(EventDraft(7, "refuse"))
    try:
        await doing
    except ConflictError as error:
        return error.reason, expected
    return None, expected
