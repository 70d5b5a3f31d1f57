"""VMs that are suspended, resumed and destroyed: what the coordinator records before anybody is told, and what not."""

from pathlib import Path

import msgspec
import pytest
import trio

from tccp.errors import HostError, LaunchError, LogError
from tccp.protocol import control as c
from tccp.protocol.destruction import DestructionReceipt
from tccp.protocol.encoding import decode, encode
from tccp.store import VmState
from tccp.tenant.destruction import verify_destruction
from tccp.tenant.launch import verify_launch
from tccp.tenant.vm_file import new_vm
from tests.node.running import Running, lose_next_answer, record_of
from tests.support.launching import Tenant, ticket_file, trust_of
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode

# ---- suspend and resume


async def test_a_vm_goes_on_on_another_node_with_what_it_had_in_memory(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    order = alpha.hypervisor.vms[0].order
    alpha.hypervisor.vms[0].memory = b"counted to 17"

    state = await running.suspend()

    assert (await record_of(coordinator, running)).state == VmState.SUSPENDED
    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))
    assert not alpha.hypervisor.vms[0].is_running
    assert await running.resume(beta, state) == ("running", "", 2)
    assert beta.hypervisor.vms[0].memory == b"counted to 17"
    assert (await record_of(coordinator, running)).node.value == "beta"


async def test_the_tenant_can_verify_where_it_was_resumed(
    coordinator: LiveCoordinator, beta: LiveNode, running: Running
) -> None:
    await running.resume(beta, await running.suspend())

    receipt = beta.node.vms.get(running.vm.vm_id).receipt
    launch = verify_launch(receipt, vm=running.vm, trust=trust_of(coordinator))

    assert (launch.node, launch.proof.proof.epoch, launch.release.kind) == ("beta", 2, "resume")


async def test_a_state_is_resumed_once_and_no_older_one(alpha: LiveNode, beta: LiveNode, running: Running) -> None:
    first = await running.suspend()
    kept = first.with_name("kept")
    kept.write_bytes(first.read_bytes())
    assert (await running.resume(beta, first))[0] == "running"

    assert await running.resume(alpha, kept) == ("failed", "vm_not_suspended", 0)
    newer = await beta.suspend(running.vm.vm_id)
    assert await running.resume(alpha, kept) == ("failed", "state_old", 0)
    assert await running.resume(alpha, Path(newer.saved)) == ("running", "", 3)


async def test_a_suspended_vm_is_not_launched_beside_its_state(
    alpha: LiveNode, running: Running, tenant: Tenant
) -> None:
    state = await running.suspend()
    again, _ = tenant.ticket([running.disk], running.vm)

    info = await alpha.launch(ticket_file(again), running.disk.path)

    assert (info.state, info.reason) == ("failed", "vm_suspended")
    assert "tccp vm resume" in info.hint
    assert (await running.resume(alpha, state))[0] == "running"


async def test_a_ticket_that_takes_any_disk_gives_the_suspended_state_up(
    alpha: LiveNode, running: Running, tenant: Tenant
) -> None:
    state = await running.suspend()
    again, _ = tenant.ticket([running.disk], running.vm, disk_state="any")

    assert (await alpha.launch(ticket_file(again), running.disk.path)).state == "running"
    assert alpha.hypervisor.vms[-1].memory == b"memory"
    alpha.hypervisor.vms[-1].end("powered_off")
    await alpha.until(running.vm.vm_id, "ended")
    assert (await running.resume(alpha, state))[:2] == ("failed", "another_ticket")


async def test_what_cannot_be_written_does_not_end_the_vm(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running
) -> None:
    alpha.hypervisor.vms[0].problem = HostError("state_unwritable", "the disk is full")

    info = await alpha.suspend(running.vm.vm_id)

    assert (info.state, info.reason) == ("running", "")
    assert "the disk is full" in info.detail
    assert alpha.hypervisor.vms[0].is_running
    assert (await record_of(coordinator, running)).state == VmState.RUNNING
    alpha.hypervisor.vms[0].problem = None
    await running.suspend()


async def test_a_bug_in_suspending_costs_no_other_vm(alpha: LiveNode, running: Running) -> None:
    alpha.hypervisor.vms[0].problem = AssertionError("a bug")

    info = await alpha.suspend(running.vm.vm_id)

    assert (info.state, info.detail) == ("running", "bug: AssertionError: a bug")
    alpha.hypervisor.vms[0].problem = None
    await running.suspend()


async def test_a_resumption_that_fails_before_the_guest_runs_gives_the_state_back(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    state = await running.suspend()
    beta.hypervisor.problem = HostError("no_memory", "the host has none left")

    assert await running.resume(beta, state) == ("failed", "no_memory", 2)
    with trio.fail_after(DEADLINE_S):
        await beta.node.desk.all_recorded()

    assert (await record_of(coordinator, running)).state == VmState.SUSPENDED
    assert await running.resume(alpha, state) == ("running", "", 3)


async def test_a_guest_that_could_not_be_run_from_its_state_stands_there_still(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    """Its vTPM's state cannot be made durable on a full disk, for example."""
    state = await running.suspend()
    beta.hypervisor.run_problem = HostError("state_unwritable", "No space left on device")

    assert await running.resume(beta, state) == ("failed", "state_unwritable", 2)
    with trio.fail_after(DEADLINE_S):
        await beta.node.desk.all_recorded()

    assert (await record_of(coordinator, running)).state == VmState.SUSPENDED
    assert await running.resume(alpha, state) == ("running", "", 3)


async def test_a_file_that_is_no_state_costs_no_resumption(alpha: LiveNode, running: Running, tmp_path: Path) -> None:
    state = await running.suspend()
    (tmp_path / "garbage").write_bytes(b"garbage")

    assert (await running.resume(alpha, tmp_path / "garbage"))[0] == "failed"
    assert (await running.resume(alpha, running.disk.path))[:2] == ("failed", "state_old")
    assert (await running.resume(alpha, state))[0] == "running"


async def test_nobody_is_told_that_a_vm_is_suspended_before_the_coordinator_has_recorded_it(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    included, may_go_on = coordinator.services.log.included, trio.Event()

    async def wait(seq: int) -> None:
        await may_go_on.wait()
        await included(seq)

    monkeypatch.setattr(coordinator.services.log, "included", wait)
    vm = alpha.node.vms.get(running.vm.vm_id)
    alpha.node.vms.suspend(vm)
    await alpha.until(vm.vm_id, "recording")
    alpha.node.vms.lose_all("lease_lapsed")  # there is nothing to lose any more
    assert vm.state == "recording"

    may_go_on.set()

    assert (await alpha.until(vm.vm_id, "suspended")).reason == "suspended"


async def test_only_what_runs_is_suspended(alpha: LiveNode, running: Running) -> None:
    await running.suspend()

    with pytest.raises(LaunchError, match="vm_not_running"):
        alpha.node.vms.suspend(alpha.node.vms.get(running.vm.vm_id))


async def test_a_suspended_vm_outlives_the_revocation_of_its_node(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    state = await running.suspend()

    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)

    assert (await running.resume(beta, state))[0] == "running"


# ---- destroy


async def destroy(node: LiveNode, vm_id: bytes) -> bytes:
    """The receipt."""
    node.node.vms.destroy(node.node.vms.get(vm_id))
    await node.until(vm_id, "destroyed")
    return node.node.vms.get(vm_id).destruction


async def test_a_destroyed_vm_leaves_nothing_but_a_receipt_that_its_tenant_can_verify(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running, tenant: Tenant
) -> None:
    order = alpha.hypervisor.vms[0].order

    receipt = await destroy(alpha, running.vm.vm_id)

    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))
    assert (await record_of(coordinator, running)).state == VmState.DESTROYED
    verified = verify_destruction(receipt, vm_id=running.vm.vm_id, trust=trust_of(coordinator))
    assert (verified.node, verified.destruction.epoch) == ("alpha", 1)
    again, _ = tenant.ticket([running.disk], running.vm)
    assert (await alpha.launch(ticket_file(again), running.disk.path)).reason == "vm_destroyed"


async def test_a_suspended_vm_is_destroyed_with_its_state(alpha: LiveNode, running: Running) -> None:
    state = await running.suspend()
    kept = state.with_name("kept")
    kept.write_bytes(state.read_bytes())

    await destroy(alpha, running.vm.vm_id)

    assert not state.exists()
    assert await running.resume(alpha, kept) == ("failed", "vm_not_suspended", 0)


async def test_a_destruction_is_told_until_the_coordinator_has_recorded_it(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_next_answer(coordinator, monkeypatch)

    await destroy(alpha, running.vm.vm_id)

    assert [event.kind for event in await coordinator.log()].count("destroy") == 1


async def test_what_cannot_be_wiped_is_not_called_destroyed(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running
) -> None:
    alpha.hypervisor.problem = HostError("not_wiped", "the disk fails")

    alpha.node.vms.destroy(alpha.node.vms.get(running.vm.vm_id))
    info = await alpha.until(running.vm.vm_id, "failed")

    assert info.reason == "not_wiped"
    with trio.fail_after(DEADLINE_S):
        await alpha.node.desk.all_recorded()
    assert (await record_of(coordinator, running)).state == VmState.ENDED
    alpha.hypervisor.problem = None
    await destroy(alpha, running.vm.vm_id)


async def test_a_receipt_of_a_destruction_proves_nothing_else(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running, tenant: Tenant
) -> None:
    receipt = await destroy(alpha, running.vm.vm_id)
    signed, other = tenant.ticket([running.disk])
    await alpha.launch(ticket_file(signed), running.disk.path)
    launched = alpha.node.vms.get(other.vm_id).receipt
    of_other = await destroy(alpha, other.vm_id)
    trust = trust_of(coordinator)
    parts: DestructionReceipt = decode(receipt, DestructionReceipt)
    others: DestructionReceipt = decode(of_other, DestructionReceipt)

    for content, vm_id, reason in [
        (launched, running.vm.vm_id, "receipt_malformed"),
        (receipt, new_vm().vm_id, "destruction_of_another"),
        (encode(msgspec.structs.replace(parts, signature=bytes(64))), running.vm.vm_id, "destruction_signature"),
        (encode(msgspec.structs.replace(parts, log_receipt=others.log_receipt)), running.vm.vm_id, "destruction_entry"),
    ]:
        with pytest.raises((LaunchError, LogError), match=reason):
            verify_destruction(content, vm_id=vm_id, trust=trust)


# ---- snapshots, where the tenant allows it


@pytest.fixture
async def allowing(alpha: LiveNode, tenant: Tenant) -> Running:
    """Launched, by a ticket that lets the provider go back."""
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk], permissions=("rollback",))
    assert (await alpha.launch(ticket_file(signed), disk.path)).state == "running"
    return Running(alpha, disk, signed, vm)


async def snapshot(running: Running) -> Path:
    """On alpha; the file to which the VM, which goes on, can go back."""
    node, vm_id = running.alpha.node, running.vm.vm_id
    before = node.vms.get(vm_id)
    node.vms.snapshot(before)
    info = await running.alpha.until_told(vm_id, lambda info: info.state == "running" and info.epoch > before.epoch)
    return Path(info.saved)


async def test_a_vm_goes_on_after_a_snapshot_and_back_to_it_as_often_as_its_tenant_allows(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, allowing: Running
) -> None:
    alpha.hypervisor.vms[-1].memory = b"counted to 17"
    kept = await snapshot(allowing)
    assert (alpha.hypervisor.vms[-1].memory, alpha.hypervisor.vms[-1].is_running) == (b"counted to 17", True)

    alpha.hypervisor.vms[-1].memory = b"counted to 23"
    newer = await allowing.suspend()
    for node, epoch in ((beta, 3), (alpha, 4)):
        assert await allowing.resume(node, kept) == ("running", "", epoch)
        assert node.hypervisor.vms[-1].memory == b"counted to 17"
        assert (await record_of(coordinator, allowing)).generation == 1
        # Never two: while it runs nothing else does, whatever the tenant allows.
        assert (await allowing.resume(beta if node is alpha else alpha, newer))[1] == "vm_running"
        node.hypervisor.vms[-1].end("powered_off")
        await node.until(allowing.vm.vm_id, "ended")
        await node.node.desk.all_recorded()
    assert await allowing.resume(alpha, newer) == ("running", "", 5)
    assert alpha.hypervisor.vms[-1].memory == b"counted to 23"


async def test_without_that_permission_nothing_is_kept_and_no_older_state_is_resumed(
    alpha: LiveNode, beta: LiveNode, running: Running, tenant: Tenant
) -> None:
    """The control is the test before: the same files, and another ticket."""
    with pytest.raises(LaunchError, match="snapshot_not_allowed"):
        alpha.node.vms.snapshot(alpha.node.vms.get(running.vm.vm_id))
    assert alpha.node.vms.get(running.vm.vm_id).state == "running"

    first = await running.suspend()
    older = first.with_name("kept")
    older.write_bytes(first.read_bytes())
    assert (await running.resume(beta, first))[0] == "running"
    beta.hypervisor.vms[-1].end("powered_off")
    await beta.until(running.vm.vm_id, "ended")
    await beta.node.desk.all_recorded()
    assert (await running.resume(alpha, older))[1] == "vm_not_suspended"

    # A ticket that allows it counts from the start that it is for, and only together with its VM.
    allowing, _ = tenant.ticket([running.disk], running.vm, permissions=("rollback",))
    info = await alpha.resume(ticket_file(allowing), older, running.disk.path)
    assert (info.state, info.reason) == ("failed", "another_ticket")


async def test_a_vm_goes_back_to_no_state_that_it_never_had(
    alpha: LiveNode, allowing: Running, tenant: Tenant, tmp_path: Path
) -> None:
    await snapshot(allowing)
    alpha.hypervisor.vms[-1].end("powered_off")
    await alpha.until(allowing.vm.vm_id, "ended")
    await alpha.node.desk.all_recorded()
    forged = tenant.seal("forged", b"another memory")

    assert (await allowing.resume(alpha, forged.path))[1] == "state_unknown"


async def test_a_destroyed_vm_goes_back_to_nothing(alpha: LiveNode, allowing: Running, tmp_path: Path) -> None:
    kept = await snapshot(allowing)
    copy = tmp_path / "copy"
    copy.write_bytes(kept.read_bytes())
    alpha.node.vms.destroy(alpha.node.vms.get(allowing.vm.vm_id))
    await alpha.until(allowing.vm.vm_id, "destroyed")

    assert (await allowing.resume(alpha, copy))[1] == "vm_destroyed"
