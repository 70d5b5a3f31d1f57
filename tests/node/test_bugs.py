"""An exception that nobody expected, in whatever is done about one VM, costs that VM and no other."""

from typing import NoReturn

import pytest
import trio
import trio.testing

from tests.node.running import Running, record_of
from tests.support.launching import Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode


def bug(*_arguments: object, **_options: object) -> NoReturn:
    raise ValueError("a bug")


async def still_launches(node: LiveNode, tenant: Tenant) -> bool:
    """Whether the daemon is well, for the next VM."""
    node.hypervisor.problem = None
    disk = tenant.seal("another", b"another")
    signed, _ = tenant.ticket([disk])
    return (await node.launch(ticket_file(signed), disk.path)).state == "running"


async def test_in_taking_leave_of_a_vm_that_has_ended(
    alpha: LiveNode, running: Running, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = alpha.hypervisor.vms[0].order
    monkeypatch.setattr("tccp.node.ending.VmEnded", bug)

    alpha.hypervisor.vms[0].end("powered_off")

    info = await alpha.until(running.vm.vm_id, "failed")
    assert (info.reason, info.detail) == ("bug", "ValueError: a bug")
    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))
    assert await still_launches(alpha, tenant)


async def test_in_removing_what_another_node_has_by_now(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, tenant: Tenant
) -> None:
    vm = alpha.hypervisor.vms[0]
    vm.may_forget = trio.Event()
    beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until(running.vm.vm_id, "arrived")
    alpha.hypervisor.problem = ValueError("a bug")
    vm.may_forget.set()

    assert (await alpha.until(running.vm.vm_id, "failed")).reason == "bug"
    assert (await beta.until(running.vm.vm_id, "running")).epoch == 2
    assert (await record_of(coordinator, running)).node.value == "beta"
    assert await still_launches(alpha, tenant)


async def test_in_removing_what_has_come_of_a_vm_that_stays_where_it_was(
    alpha: LiveNode, beta: LiveNode, running: Running, tenant: Tenant
) -> None:
    alpha.hypervisor.vms[0].may_send = trio.Event()
    vm = beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until_told(running.vm.vm_id, lambda info: info.transfer is not None and info.transfer.sent_bytes > 0)
    beta.hypervisor.problem = ValueError("a bug")

    beta.node.vms.give_up(vm)

    await beta.until(running.vm.vm_id, "ended")
    with trio.fail_after(DEADLINE_S):
        await beta.node.desk.all_recorded()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert await still_launches(beta, tenant)


async def test_in_destroying_one_and_it_can_be_tried_again(alpha: LiveNode, running: Running, tenant: Tenant) -> None:
    vm = alpha.node.vms.get(running.vm.vm_id)
    alpha.hypervisor.problem = ValueError("a bug")

    alpha.node.vms.destroy(vm)

    assert (await alpha.until(running.vm.vm_id, "failed")).reason == "bug"
    assert await still_launches(alpha, tenant)
    alpha.node.vms.destroy(vm)
    assert (await alpha.until(running.vm.vm_id, "destroyed")).reason == "destroyed"


async def test_in_resuming_after_a_snapshot(alpha: LiveNode, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tenant.seal("disk", b"content")
    signed, _ = tenant.ticket([disk], permissions=("rollback",))
    vm_id = (await alpha.launch(ticket_file(signed), disk.path)).vm_id
    with monkeypatch.context() as patched:
        patched.setattr(alpha.node.vms, "_begin", bug)

        alpha.node.vms.snapshot(alpha.node.vms.get(vm_id))

        info = await alpha.until_told(vm_id, lambda info: info.state == "suspended" and info.reason != "suspended")
    assert (info.reason, info.detail) == ("bug", "ValueError: a bug")
    assert await still_launches(alpha, tenant)


@pytest.mark.parametrize("stop", ["kill", "shut_down"])
async def test_in_stopping_one_which_ends_it_all_the_same(
    alpha: LiveNode, running: Running, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    monkeypatch.setattr(f"tests.support.live_node.PaperVm.{stop}", bug)

    alpha.node.vms.stop(alpha.node.vms.get(running.vm.vm_id), force=stop == "kill")

    assert (await alpha.until(running.vm.vm_id, "ended")).reason == "bug"
    assert await still_launches(alpha, tenant)


async def test_in_removing_what_an_earlier_run_of_the_daemon_has_left(
    alpha: LiveNode, running: Running, tenant: Tenant
) -> None:
    vm = alpha.node.vms.get(running.vm.vm_id)
    alpha.hypervisor.vms[0].end("powered_off")
    await alpha.until(running.vm.vm_id, "ended")
    alpha.hypervisor.problem = ValueError("a bug")

    await alpha.node.vms._endings.leave_now(vm)

    assert (vm.state, vm.reason) == ("failed", "bug")
    assert await still_launches(alpha, tenant)


# ---- and what is done about one while it ends


async def test_a_source_that_cannot_go_on_after_a_move_that_failed_ends_it(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that stands still for ever is of no use to anybody, and would be shown as running."""
    alpha.hypervisor.vms[0].problem = ValueError("a bug")
    monkeypatch.setattr("tests.support.live_node.PaperVm.run", bug)

    beta.node.vms.receive(running.ticket, [running.disk.path])

    assert (await alpha.until(running.vm.vm_id, "ended")).reason == "not_continued"
    with trio.fail_after(DEADLINE_S):
        await coordinator.until("stop")


async def test_a_vm_that_is_ended_while_its_state_is_being_put_away_is_suspended_all_the_same(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disks were left as a suspended VM's: said to have ended, it could not be started from them again."""
    order, suspend, may_go_on = alpha.hypervisor.vms[0].order, alpha.hypervisor.vms[0].suspend, trio.Event()

    async def slowly() -> object:
        saved = await suspend()
        with trio.CancelScope(shield=True):  # copies of its disks, for example
            await may_go_on.wait()
        return saved

    monkeypatch.setattr(alpha.hypervisor.vms[0], "suspend", slowly)
    vm = alpha.node.vms.get(running.vm.vm_id)
    alpha.node.vms.suspend(vm)
    await trio.testing.wait_all_tasks_blocked(0.01)

    vm.end("lease_lapsed")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))  # whatever else has to wait
    may_go_on.set()

    info = await alpha.until(running.vm.vm_id, "suspended", "ended")
    assert info.state == "suspended"
    assert (await record_of(coordinator, running)).state == "suspended"
