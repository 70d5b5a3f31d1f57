"""Any sequence of operations gives what a few dictionaries give."""

import tempfile
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.model import NodeName
from tccp.store import Store, open_store
from tests.store.operations import BEGINNINGS, OPERATIONS, Operation, apply
from tests.store.support import POLICY, ek, lease_id, vm_id
from tests.store.vm_model import Model


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
    for key in model.vms:
        move, wanted = await store.move(vm_id(key), 0), model.move_of(key, 0)
        found_move = move and (move.epoch, move.move_id, move.node.value, move.boot_id, move.marks is not None)
        assert found_move == (
            wanted and (wanted.epoch, ek(f"nonce {wanted.nonce}"), wanted.node, wanted.boot, wanted.arrived)
        )
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
