"""What a daemon leaves is known to the next one: a destruction is finished, whatever came between, with a receipt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tccp.errors import HostError, LaunchError
from tccp.node.registration import NodeTpm
from tccp.node.remains import RemainsFolder, read_remains
from tccp.protocol.encoding import encode
from tccp.store import VmState
from tccp.tenant.destruction import verify_destruction
from tests.node.running import Running, record_of
from tests.support.launching import Tenant, ticket_file, trust_of
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode, PaperHypervisor, live_node


class Rack:
    """A place for alpha's daemon: it can be started again, with another boot and what is on its disk."""

    def __init__(self, coordinator: LiveCoordinator, host: NodeTpm, folder: Path) -> None:
        self.coordinator, self.host, self.folder = coordinator, host, folder

    @asynccontextmanager
    async def boot(self) -> AsyncIterator[LiveNode]:
        """A run of the daemon, which dies at the end of the block without another word."""
        async with live_node(self.coordinator, "alpha", self.host, self.folder) as node:
            yield node
            node.node.desk.detach()
            node.node.desk.attach = lambda _connection: None  # type: ignore[method-assign]

    @property
    def notes(self) -> list[Path]:
        """What is written down of VMs."""
        return sorted((self.folder / "alpha-vms").iterdir())


@pytest.fixture
async def rack(coordinator: LiveCoordinator, host: NodeTpm, tmp_path: Path) -> Rack:
    """With a node that is enrolled."""
    await coordinator.enrol("alpha", host)
    return Rack(coordinator, host, tmp_path)


async def launched(node: LiveNode, tenant: Tenant) -> Running:
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk])
    assert (await node.launch(ticket_file(signed), disk.path)).state == "running"
    return Running(node, disk, signed, vm)


async def doomed(node: LiveNode, running: Running) -> None:
    """A destruction is begun, and does not come to its end: the coordinator does not hear of it."""
    node.node.desk.detach()
    node.node.desk.attach = lambda _connection: None  # type: ignore[method-assign]
    node.node.vms.destroy(node.node.vms.get(running.vm.vm_id))
    await node.until(running.vm.vm_id, "destroying")


async def verified(coordinator: LiveCoordinator, node: LiveNode, running: Running) -> bytes:
    """The receipt holds: the boot that signed it."""
    await node.until(running.vm.vm_id, "destroyed")
    receipt = node.node.vms.get(running.vm.vm_id).destruction
    found = verify_destruction(receipt, vm_id=running.vm.vm_id, trust=trust_of(coordinator))
    return found.destruction.boot_id


async def test_a_destruction_that_the_daemon_did_not_live_to_finish_is_finished_by_the_next(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
        state = await running.suspend()
        await doomed(node, running)
        node.hypervisor.problem = HostError("not_wiped", "it dies before")
    state.write_bytes(b"what was not wiped yet")
    assert (await record_of(coordinator, running)).state == VmState.SUSPENDED

    async with rack.boot() as node:
        assert await verified(coordinator, node, running) == node.node.identity.boot_id
        assert not state.exists()
        assert (await record_of(coordinator, running)).state == VmState.DESTROYED


async def test_a_destruction_is_noted_before_anything_is_wiped_or_ended(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
        vm = node.node.vms.get(running.vm.vm_id)
        await node.node.vms._endings.doom(vm)  # and the power fails
        assert node.hypervisor.vms[0].is_running

    async with rack.boot() as node:
        await verified(coordinator, node, running)
        assert (await record_of(coordinator, running)).end_reason == "destroyed"


async def test_a_receipt_that_was_lost_with_the_daemon_is_made_again_and_holds(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, recorded = coordinator.services.log.receipt, trio.Event()

    async def never(seq: int) -> bytes:
        recorded.set()  # the transaction is done, and the answer is never sent
        await trio.sleep_forever()
        return await receipt(seq)

    async with rack.boot() as node:
        running = await launched(node, tenant)
        monkeypatch.setattr(coordinator.services.log, "receipt", never)
        node.node.vms.destroy(node.node.vms.get(running.vm.vm_id))
        with trio.fail_after(DEADLINE_S):
            await recorded.wait()
        monkeypatch.setattr(coordinator.services.log, "receipt", receipt)
        first_boot = node.node.identity.boot_id
    assert (await record_of(coordinator, running)).state == VmState.DESTROYED

    async with rack.boot() as node:
        assert await verified(coordinator, node, running) == node.node.identity.boot_id != first_boot
    assert [event.kind for event in await coordinator.log()].count("destroy") == 2


async def test_a_receipt_is_there_after_a_restart_and_nothing_is_said_again(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
        node.node.vms.destroy(node.node.vms.get(running.vm.vm_id))
        boot = await verified(coordinator, node, running)

    async with rack.boot() as node:
        assert await verified(coordinator, node, running) == boot
        node.node.vms.destroy(node.node.vms.get(running.vm.vm_id))
        assert node.node.vms.get(running.vm.vm_id).state == "destroyed"
    assert [event.kind for event in await coordinator.log()].count("destroy") == 1


async def test_a_vm_that_died_with_its_daemon_is_known_to_the_next_and_can_be_destroyed(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)

    async with rack.boot() as node:
        info = node.node.vms.get(running.vm.vm_id).info()
        assert (info.state, info.reason, info.epoch) == ("ended", "daemon_ended", 1)
        node.node.vms.destroy(node.node.vms.get(running.vm.vm_id))
        await verified(coordinator, node, running)


async def test_a_suspended_vm_is_known_after_a_restart_and_can_be_resumed(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
        state = await running.suspend()

    async with rack.boot() as node:
        info = node.node.vms.get(running.vm.vm_id).info()
        assert (info.state, info.saved) == ("suspended", str(state))
        assert await running.resume(node, state) == ("running", "", 2)


async def test_what_another_node_has_by_now_is_wiped_here_and_that_is_all(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant, other_host: NodeTpm, tmp_path: Path
) -> None:
    await coordinator.enrol("beta", other_host)
    async with rack.boot() as node:
        running = await launched(node, tenant)
        state = await running.suspend()
        kept = state.with_name("kept")
        kept.write_bytes(state.read_bytes())

    async with live_node(coordinator, "beta", other_host, tmp_path) as beta, rack.boot() as node:
        assert (await running.resume(beta, kept))[0] == "running"
        node.node.vms.destroy(node.node.vms.get(running.vm.vm_id))
        assert (await node.until(running.vm.vm_id, "failed")).reason == "vm_of_another_node"
        assert not state.exists()
        assert not rack.notes
        assert (await record_of(coordinator, running)).state == VmState.RUNNING


async def test_a_vm_that_has_left_leaves_no_note(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant, other_host: NodeTpm, tmp_path: Path
) -> None:
    await coordinator.enrol("beta", other_host)
    async with live_node(coordinator, "beta", other_host, tmp_path) as beta, rack.boot() as node:
        running = await launched(node, tenant)
        assert (await beta.receive(running.ticket, running.disk.path)).state == "running"
        await node.until(running.vm.vm_id, "moved")
        assert not rack.notes

        # The daemon dies while it removes what is of no use here any more.
        await node.node.vms._remains.write(node.node.vms.get(running.vm.vm_id), "leaving")
    async with rack.boot() as node:
        with trio.fail_after(DEADLINE_S):
            while rack.notes:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_what_is_still_being_removed_does_not_come_back_meanwhile(
    rack: Rack, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
        await node.node.vms._remains.write(node.node.vms.get(running.vm.vm_id), "leaving")
    may_destroy = trio.Event()
    monkeypatch.setattr(PaperHypervisor, "may_destroy", may_destroy)
    async with rack.boot() as node:
        again, _ = tenant.ticket([running.disk], running.vm)
        while node.node.vms._nursery is None or not node.node.lease.allows_vms:  # noqa: ASYNC110
            await trio.sleep(0.01)

        vm = node.node.vms.receive(ticket_file(again), [running.disk.path])
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert vm.state == "checking"
        assert rack.notes

        may_destroy.set()
        with trio.fail_after(DEADLINE_S):
            assert "asking" in [info.state async for info in node.node.vms.steps(vm)]
        assert not rack.notes


async def test_what_is_doomed_stays_so_whatever_is_recorded_of_it_meanwhile(rack: Rack, tenant: Tenant) -> None:
    async with rack.boot() as node:
        vm = node.node.vms.get((await launched(node, tenant)).vm.vm_id)
        vm.is_doomed = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.node.vms._remains.write, vm, "doomed")
            nursery.start_soon(node.node.vms._remains.write, vm, "suspended")

        (note,) = rack.notes
        assert read_remains(note.read_bytes()).word == "doomed"


async def test_a_note_that_was_altered_is_left_alone_and_harms_nobody(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
    (note,) = rack.notes
    content = note.read_bytes()

    for altered, name in [
        (content[:-1], note.name),
        (content[:300] + bytes([content[300] ^ 1]) + content[301:], note.name),
        (content, "00" * 16 + ".vm"),
    ]:
        note.unlink(missing_ok=True)
        other = note.with_name(name)
        other.write_bytes(altered)
        assert RemainsFolder(note.parent).recall(coordinator.services.coordinator_id) == []
        other.unlink()
    note.write_bytes(content)
    assert read_remains(content).word == "here"
    ((vm, word),) = RemainsFolder(note.parent).recall(coordinator.services.coordinator_id)
    assert (vm.vm_id, word) == (running.vm.vm_id, "here")
    assert RemainsFolder(note.parent).recall(bytes(32)) == []  # of another coordinator
    note.write_bytes(encode(msgspec.structs.replace(read_remains(content), word="suspended", saved="/" + "x" * 300)))
    ((vm, word),) = RemainsFolder(note.parent).recall(coordinator.services.coordinator_id)
    assert (word, vm.saved) == ("suspended", None)


async def test_a_host_that_runs_no_vms_has_nothing_to_remember() -> None:
    assert RemainsFolder(None).recall(bytes(32)) == []


async def test_a_vm_that_cannot_be_noted_is_not_started_and_given_back(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        (rack.folder / "alpha-vms").write_text("no folder")
        disk = tenant.seal("disk", b"content")
        signed, vm = tenant.ticket([disk])

        info = await node.launch(ticket_file(signed), disk.path)

        assert (info.state, info.reason) == ("failed", "state_unwritable")
        with trio.fail_after(DEADLINE_S):
            await node.node.desk.all_recorded()
        record = await coordinator.store.vm(vm.vm_id)
        assert record is not None
        assert record.state == VmState.ENDED


async def test_a_vm_that_is_being_destroyed_is_not_launched(
    coordinator: LiveCoordinator, rack: Rack, tenant: Tenant
) -> None:
    async with rack.boot() as node:
        running = await launched(node, tenant)
        await doomed(node, running)
    async with rack.boot() as node:
        node.node.desk.detach()
        again, _ = tenant.ticket([running.disk], running.vm)
        with pytest.raises(LaunchError, match=r"vm_running|vm_destroyed"):
            node.node.vms.launch(ticket_file(again), [running.disk.path])
