"""A node's VMs: launched by tickets, ended with the lease, given back when they do not start."""

from pathlib import Path

import msgspec
import pytest
import trio

from tccp.config import NodeCoordinatorConfig
from tccp.errors import HostError, LaunchError
from tccp.protocol import control as c
from tccp.protocol.ticket import PolicyDemand, SignedTicket
from tests.node.running import CONTENT, Running, cut, last_event, record_of_vm
from tests.support.launching import DISK, KERNEL, SealedFile, Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode

# ---- launching


async def test_a_ticket_and_its_images_make_a_vm(alpha: LiveNode, tenant: Tenant, disk: SealedFile) -> None:
    signed, vm = tenant.ticket([disk])

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.vm_id, info.epoch, info.has_receipt) == ("running", vm.vm_id, 1, True)
    (running,) = alpha.hypervisor.vms
    assert running.is_running
    assert running.contents == [CONTENT]
    assert bytes(running.order.keys.vm_key.buffer) == vm.vm_key


async def test_images_are_found_by_their_roots_in_any_order(alpha: LiveNode, tenant: Tenant) -> None:
    kernel, initrd = tenant.seal("kernel", b"kernel", "kernel"), tenant.seal("initrd", b"initrd", "initrd")
    signed, _ = tenant.ticket([kernel, initrd], shape=KERNEL)

    info = await alpha.launch(ticket_file(signed), initrd.path, kernel.path)

    assert info.state == "running"
    assert [image.role for image in alpha.hypervisor.vms[0].order.images] == ["kernel", "initrd"]


async def test_two_images_of_one_tenant_cannot_stand_in_for_each_other(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    other = tenant.seal("other", b"an older disk of hers")
    signed, vm = tenant.ticket([disk])

    info = await alpha.launch(ticket_file(signed), other.path)

    assert (info.state, info.reason) == ("failed", "image_missing")
    assert await coordinator.store.vm(vm.vm_id) is None
    assert (await alpha.launch(ticket_file(signed), disk.path)).state == "running"  # the ticket was not used up


async def test_a_file_too_many_or_none_of_ours_is_refused_before_any_key_is_asked_for(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile, tmp_path: Path
) -> None:
    signed, vm = tenant.ticket([disk])
    other, plain = tenant.seal("other", b"other"), tmp_path / "plain"
    plain.write_bytes(bytes(100_000))

    for paths, reason in [
        ([disk.path, other.path], "image_unused"),
        ([plain], "malformed"),
        ([tmp_path / "nowhere"], "file_unreadable"),
    ]:
        assert (await alpha.launch(ticket_file(signed), *paths)).reason == reason
    assert await coordinator.store.vm(vm.vm_id) is None


async def test_what_is_no_ticket_of_our_coordinator_is_refused_at_once(
    alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk])
    foreign, _ = tenant.ticket([disk], coordinator_id=bytes(32))
    altered = SignedTicket(signed.ticket[:-1] + b"\x00", signed.signature)

    for content, reason in [
        (b"nothing", "ticket_malformed"),
        (ticket_file(altered), "ticket_signature"),
        (ticket_file(foreign), "ticket_for_another_coordinator"),
    ]:
        with pytest.raises(LaunchError, match=reason):
            alpha.node.vms.launch(content, [disk.path])


async def test_a_refusal_of_the_coordinator_is_told_with_what_can_be_done(
    alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk], policy=PolicyDemand("strict", 1, {}))

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.reason) == ("failed", "policy_not_demanded")
    assert "policy" in info.hint
    assert not alpha.hypervisor.vms


async def test_a_machine_that_cannot_be_had_does_not_use_the_ticket_up(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk], shape=msgspec.structs.replace(DISK, networks=("office",)))

    with pytest.raises(LaunchError, match="shape_unsupported"):
        alpha.node.vms.launch(ticket_file(signed), [disk.path])
    assert await coordinator.store.vm(vm.vm_id) is None


async def test_a_vm_runs_once_on_a_node(alpha: LiveNode, tenant: Tenant, disk: SealedFile) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    again, _ = tenant.ticket([disk], vm)

    with pytest.raises(LaunchError, match="vm_running"):
        alpha.node.vms.launch(ticket_file(again), [disk.path])


async def test_an_image_with_an_altered_header_is_refused(alpha: LiveNode, tenant: Tenant, disk: SealedFile) -> None:
    signed, _ = tenant.ticket([disk])
    content = bytearray(disk.path.read_bytes())
    content[200] ^= 1
    disk.path.write_bytes(bytes(content))

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.reason) == ("failed", "malformed")


# ---- the end


async def test_a_vm_that_ends_leaves_no_key_and_the_coordinator_knows(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    order = alpha.hypervisor.vms[0].order

    alpha.hypervisor.vms[0].end("crashed")
    info = await alpha.until(vm.vm_id, "ended")
    event = await last_event(coordinator, "stop")

    assert info.reason == "crashed"
    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))
    assert msgspec.msgpack.decode(event.body)["reason"] == "crashed"
    assert (await record_of_vm(coordinator, vm)).state == "ended"
    again, _ = tenant.ticket([disk], vm)
    assert (await alpha.launch(ticket_file(again), disk.path)).epoch == 2


@pytest.mark.parametrize(("force", "reason"), [(False, "shut_down"), (True, "killed")])
async def test_an_operator_stops_a_vm(  # noqa: PLR0917
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile, force: bool, reason: str
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)

    alpha.node.vms.stop(alpha.node.vms.get(vm.vm_id), force=force)

    assert (await alpha.until(vm.vm_id, "ended")).reason == reason
    await last_event(coordinator, "stop")


async def test_a_machine_that_does_not_start_is_given_back(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    alpha.hypervisor.problem = HostError("no_memory", "the host has none left")

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.reason) == ("failed", "no_memory")
    await last_event(coordinator, "stop")
    assert (await record_of_vm(coordinator, vm)).end_reason == "no_memory"


async def test_a_bug_costs_one_vm_and_no_other(alpha: LiveNode, tenant: Tenant, disk: SealedFile) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    alpha.hypervisor.problem = AssertionError("a bug")
    other, _ = tenant.ticket([disk])

    assert (await alpha.launch(ticket_file(other), disk.path)).reason == "bug"

    assert alpha.node.vms.get(vm.vm_id).state == "running"


async def test_a_revoked_node_ends_its_vms_and_wipes_their_keys(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    running = alpha.hypervisor.vms[0]

    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)
    info = await alpha.until(vm.vm_id, "ended")

    assert info.reason == "revoked"
    assert not running.is_running
    assert running.order.keys.vm_key.is_wiped
    assert (await record_of_vm(coordinator, vm)).state == "lost"


@pytest.mark.parametrize("lease_s", [4])
async def test_a_node_that_hears_nothing_ends_its_vms_when_its_lease_does(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    running = alpha.hypervisor.vms[0]

    # The network is cut: the coordinator hears and says nothing more, and nobody tells the node.
    cut(coordinator)
    alpha.node.config = msgspec.structs.replace(alpha.node.config, coordinator=_nowhere(alpha))
    info = await alpha.until(vm.vm_id, "ended")

    assert info.reason == "lease_lapsed"
    assert running.order.keys.vm_key.is_wiped
    with pytest.raises(HostError, match="not_admitted"):
        alpha.node.vms.launch(ticket_file(signed), [disk.path])


def _nowhere(alpha: LiveNode) -> NodeCoordinatorConfig:
    return msgspec.structs.replace(alpha.node.config.coordinator, address="127.0.0.1:1")


async def test_a_vm_outlives_a_broken_connection(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    before = (await record_of_vm(coordinator, vm)).lease_id

    cut(coordinator)
    with trio.fail_after(DEADLINE_S):
        while (record := await record_of_vm(coordinator, vm)).lease_id == before:  # noqa: ASYNC110
            await trio.sleep(0.02)

    assert record.state == "running"
    assert alpha.node.vms.get(vm.vm_id).state == "running"


async def test_a_node_that_stops_begins_no_vm_any_more(alpha: LiveNode, running: Running, tenant: Tenant) -> None:
    """It would wait for its end."""
    disk = tenant.seal("another", b"another")
    signed, _ = tenant.ticket([disk])

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alpha.node.vms.end_all, "node_stopped")
            while not alpha.node.vms.get(running.vm.vm_id).reason:
                await trio.lowlevel.checkpoint()
            with pytest.raises(HostError, match="node_stops"):
                alpha.node.vms.launch(ticket_file(signed), [disk.path])

    assert alpha.node.vms.get(running.vm.vm_id).reason == "node_stopped"
