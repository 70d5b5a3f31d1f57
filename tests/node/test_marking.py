"""How far the disks of a running VM have come is on record, whatever becomes of coordinator and node."""

from pathlib import Path

import pytest
import trio

from tccp.errors import DiskError, HostError
from tccp.node.registration import NodeTpm
from tccp.store import VmState, ownership
from tests.node.running import Running, record_of
from tests.support.launching import Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, ZERO, LiveCoordinator, live_coordinator
from tests.support.live_node import LiveNode, live_node, paper_mark
from tests.support.perimeter import free_port
from tests.support.soft_tpm import SoftTpm


async def until_registered(coordinator: LiveCoordinator, running: Running, written: int) -> None:
    with trio.fail_after(DEADLINE_S):
        while (await record_of(coordinator, running)).marks != paper_mark(written):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def crash(node: LiveNode) -> None:
    """Say nothing more to the coordinator; the caller ends it."""
    node.node.desk.detach()
    node.node.desk.attach = lambda _connection: None  # type: ignore[method-assign]


async def test_marks_are_registered_at_once_and_whenever_something_was_written(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running
) -> None:
    (vm,) = alpha.hypervisor.vms
    await until_registered(coordinator, running, 0)

    vm.written = 3

    await until_registered(coordinator, running, 3)
    with trio.fail_after(DEADLINE_S):
        while vm.kept != [paper_mark(0), paper_mark(3)]:  # noqa: ASYNC110 - the disk is told what is on record
            await trio.sleep(0.01)


async def test_a_disk_that_cannot_say_how_far_it_is_costs_no_vm_and_is_asked_again(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running
) -> None:
    (vm,) = alpha.hypervisor.vms
    await until_registered(coordinator, running, 0)
    vm.mark_problem = DiskError("no_space", "the host's disk is full")
    vm.written = 3

    await until_registered(coordinator, running, 3)

    assert vm.mark_problem is None
    assert alpha.node.vms.get(running.vm.vm_id).state == "running"


@pytest.mark.parametrize("lease_s", [4])
async def test_a_node_that_dies_leaves_the_marks_that_the_next_start_demands(
    coordinator: LiveCoordinator,
    host: NodeTpm,
    tenant: Tenant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ownership, "STOP_GRACE_MS", 0)
    await coordinator.enrol("alpha", host)
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk])
    async with live_node(coordinator, "alpha", host, tmp_path) as node:
        await node.launch(ticket_file(signed), disk.path)
        running = Running(node, disk, signed, vm)
        node.hypervisor.vms[0].written = 7
        await until_registered(coordinator, running, 7)
        node.hypervisor.vms[0].written = 9  # a mark that nobody hears of
        await crash(node)
    assert (await record_of(coordinator, running)).state == VmState.RUNNING

    again, _ = tenant.ticket([disk], vm)
    async with live_node(coordinator, "alpha", host, tmp_path) as node:
        record = await record_of(coordinator, running)
        assert (record.state, record.end_reason) == ("lost", "rebooted")
        info = await node.launch(ticket_file(again), disk.path)
        with trio.fail_after(DEADLINE_S):
            while info.reason == "vm_not_free":  # until the lease is over
                await trio.sleep(0.1)
                info = await node.launch(ticket_file(again), disk.path)
        assert info.state == "running"
        keys = node.hypervisor.vms[-1].order.keys
        assert (keys.disk_root, keys.marks) == (None, paper_mark(7))


async def test_a_disk_that_is_refused_leaves_the_vm_as_it_was(
    coordinator: LiveCoordinator, alpha: LiveNode, running: Running, tenant: Tenant
) -> None:
    await until_registered(coordinator, running, 0)
    alpha.hypervisor.vms[0].end("disk_failed")
    await alpha.until(running.vm.vm_id, "ended")
    with trio.fail_after(DEADLINE_S):
        await alpha.node.desk.all_recorded()

    alpha.hypervisor.problem = HostError("wrong_disk_mark", "an older one")
    info = await alpha.launch(ticket_file(tenant.ticket([running.disk], running.vm)[0]), running.disk.path)
    assert (info.state, info.reason) == ("failed", "wrong_disk_mark")
    with trio.fail_after(DEADLINE_S):
        await alpha.node.desk.all_recorded()

    record = await record_of(coordinator, running)
    assert (record.state, record.disk_root, record.marks) == ("ended", None, paper_mark(0))


async def test_the_marks_of_a_destination_are_on_record_before_a_vm_runs_there(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    alpha.hypervisor.vms[0].written = 5
    await until_registered(coordinator, running, 5)

    info = await beta.receive(running.ticket, running.disk.path)

    assert info.state == "running"
    record = await record_of(coordinator, running)
    assert (record.marks, record.marks_epoch) == (paper_mark(0), 2)  # new disks


async def test_a_vm_runs_on_while_the_coordinator_is_down_and_its_marks_are_registered_afterwards(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    port = free_port()
    async with trio.open_nursery() as nursery:
        ready, go_on = trio.Event(), trio.Event()
        found: list[LiveNode] = []

        async def run_node(coordinator: LiveCoordinator) -> None:
            async with live_node(coordinator, "alpha", host, tmp_path) as node:
                found.append(node)
                ready.set()
                await go_on.wait()

        async with live_coordinator(tmp_path, coordinator_tpm, port=port) as coordinator:
            await coordinator.add_policy({0: ZERO, 4: ZERO})
            await coordinator.enrol("alpha", host)
            tenant = Tenant.of(tmp_path, coordinator)
            await tenant.enrol(coordinator)
            nursery.start_soon(run_node, coordinator)
            await ready.wait()
            (alpha,) = found
            disk = tenant.seal("disk", b"content")
            signed, vm = tenant.ticket([disk])
            await alpha.launch(ticket_file(signed), disk.path)
            running = Running(alpha, disk, signed, vm)
            await until_registered(coordinator, running, 0)

        alpha.hypervisor.vms[0].written = 4
        with trio.fail_after(DEADLINE_S):
            while alpha.node.state == "admitted":  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert alpha.node.vms.get(vm.vm_id).state == "running"

        async with live_coordinator(tmp_path, coordinator_tpm, port=port) as coordinator:
            await until_registered(coordinator, running, 4)
            assert alpha.node.vms.get(vm.vm_id).state == "running"
            go_on.set()
