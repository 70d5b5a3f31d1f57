"""What has no answer yet: asked for again on the next connection, and given back when nobody wants it any more."""

import msgspec
import pytest
import trio

from tccp.control.client import ControlClient
from tccp.coordinator.launch import REQUESTS_MAX
from tccp.protocol import vm_control as v
from tccp.protocol.messages import KeyRequest
from tests.node.running import last_event, lose_next_answer, record_of_vm
from tests.support.launching import SealedFile, Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode


async def test_an_answer_that_was_lost_is_asked_for_again_on_the_next_connection(
    coordinator: LiveCoordinator,
    alpha: LiveNode,
    tenant: Tenant,
    disk: SealedFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signed, vm = tenant.ticket([disk])
    lose_next_answer(coordinator, monkeypatch)  # the transaction is done, the keys are not sent

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.epoch) == ("running", 1)
    assert [event.kind for event in await coordinator.log()].count("release") == 1
    assert (await record_of_vm(coordinator, vm)).state == "running"


async def test_a_request_that_was_given_up_while_its_answer_got_lost_is_asked_again_and_given_back(
    coordinator: LiveCoordinator,
    alpha: LiveNode,
    tenant: Tenant,
    disk: SealedFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the VM would be this node's for as long as its lease holds, and nobody would run it."""
    signed, vm = tenant.ticket([disk])
    lose_next_answer(coordinator, monkeypatch, also=lambda: alpha.node.vms.get(vm.vm_id).end("cancelled"))

    assert (await alpha.launch(ticket_file(signed), disk.path)).reason == "cancelled"

    await last_event(coordinator, "stop")
    assert (await record_of_vm(coordinator, vm)).state == "ended"
    assert not alpha.hypervisor.vms


async def test_what_was_asked_twice_and_is_answered_twice_is_not_given_back_while_it_runs(
    coordinator: LiveCoordinator,
    alpha: LiveNode,
    tenant: Tenant,
    disk: SealedFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that is said again after a minute crosses its answer; else anybody might start the VM elsewhere."""
    signed, vm = tenant.ticket([disk])
    receipt, desk, asked = coordinator.services.log.receipt, alpha.node.desk, []

    async def noted_receipt(seq: int) -> bytes:
        asked.extend(message for message in desk._open.values() if isinstance(message, KeyRequest))
        return await receipt(seq)

    monkeypatch.setattr(coordinator.services.log, "receipt", noted_receipt)
    info = await alpha.launch(ticket_file(signed), disk.path)
    assert desk._connection is not None
    desk._connection.send_nowait(asked[0])
    with trio.fail_after(DEADLINE_S):
        while coordinator.services.sessions.counters.releases < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)
        alpha.node.vms.stop(alpha.node.vms.get(vm.vm_id), force=True)
        event = await last_event(coordinator, "stop")

    assert (info.state, info.epoch) == ("running", 1)
    assert msgspec.msgpack.decode(event.body)["reason"] == "killed"


async def test_whoever_leaves_before_a_vm_runs_gives_it_back(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    alpha.hypervisor.may_open = trio.Event()  # never set: the machine does not get ready

    def launch_and_leave() -> None:
        with ControlClient(alpha.control) as client:
            for info in client.stream(v.LaunchVm(ticket_file(signed), (str(disk.path),)), v.VmInfo):
                if info.state == "starting":
                    return

    await trio.to_thread.run_sync(launch_and_leave)

    assert (await alpha.until(vm.vm_id, "ended")).reason == "cancelled"
    await last_event(coordinator, "stop")
    assert (await record_of_vm(coordinator, vm)).state == "ended"


async def test_many_ends_at_once_are_all_recorded(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    """More than the coordinator takes from a node at once."""
    tickets = [tenant.ticket([disk]) for _ in range(3 * REQUESTS_MAX)]
    async with trio.open_nursery() as nursery:
        for signed, _ in tickets:
            nursery.start_soon(alpha.launch, ticket_file(signed), disk.path)

    alpha.node.vms.lose_all("lease_lapsed")
    with trio.fail_after(DEADLINE_S):
        await alpha.node.desk.all_recorded()
        for _, vm in tickets:
            await alpha.until(vm.vm_id, "ended")
        await alpha.node.desk.all_recorded()

    assert {record.state for record in await coordinator.store.vms()} == {"ended"}
    assert len(await coordinator.store.vms()) == len(tickets)
