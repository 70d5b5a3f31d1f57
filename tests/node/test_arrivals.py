"""What has come from another node: its source lets go of it once it is safe, and what becomes of it is on record."""

import pytest
import trio

from tccp.errors import DiskError, HostError
from tccp.node.vm.streams import Streams
from tests.node.running import Running, record_of
from tests.support import live_node as paper
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode, PaperVm, paper_mark


async def test_a_vm_that_dies_where_it_has_just_come_starts_again_from_no_older_disk(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its source has wiped it, so its disks there are all that there is. Whoever kills it has an older one."""
    receive = paper._receive

    async def die_then(streams: Streams, vm: PaperVm) -> bytes:
        await receive(streams, vm)
        raise HostError("qemu_failed", "killed")

    monkeypatch.setattr(paper, "_receive", die_then)
    beta.node.vms.receive(running.ticket, [running.disk.path])

    await alpha.until(running.vm.vm_id, "moved")
    with trio.fail_after(DEADLINE_S):
        await coordinator.until("stop")
    record = await record_of(coordinator, running)
    assert (record.node.value, record.epoch, record.state) == ("beta", 2, "ended")
    assert (record.marks, record.marks_epoch) == (paper_mark(0), 2)


async def test_a_vm_whose_disk_can_give_no_mark_where_it_has_come_goes_on_where_it_was(
    alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = PaperVm.marks

    async def no_room(vm: PaperVm) -> bytes:
        if vm.order.incoming is not None:
            raise DiskError("enospc", "no room for a mark")
        return await marks(vm)

    monkeypatch.setattr(PaperVm, "marks", no_room)

    info = await beta.receive(running.ticket, running.disk.path)

    assert (info.state, info.reason) == ("failed", "enospc")
    assert (await alpha.until(running.vm.vm_id, "running")).epoch == 1
    with trio.fail_after(DEADLINE_S):
        await alpha.node.desk.all_recorded()
    assert [vm.is_running for vm in alpha.hypervisor.vms] == [True]


async def test_what_cannot_be_removed_of_a_vm_that_does_not_come_is_told(
    alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    alpha.hypervisor.vms[0].may_send = trio.Event()
    vm = beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until_told(vm.vm_id, paper.is_under_way)
    beta.hypervisor.problem = HostError("not_wiped", "disk0.live: Read-only file system")

    beta.node.vms.give_up(vm)

    info = await beta.until_told(vm.vm_id, lambda info: info.reason == "not_wiped")
    assert (info.state, info.detail) == ("failed", "disk0.live: Read-only file system")
