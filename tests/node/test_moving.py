"""A VM moves from node to node while it runs: at each moment one of them may run it, and all know which."""

import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import HostError, LaunchError
from tccp.model import NodeName
from tccp.node.one_vm import Vm
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import MoveOrder
from tccp.protocol.ticket import PolicyDemand
from tccp.protocol.vm_control import VmTransfer
from tccp.store import KeyClaim, LeaseRecord, VmRecord
from tccp.tenant.launch import verify_launch
from tests.node.running import Running, record_of
from tests.support.launching import Tenant, ticket_file, trust_of
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode, is_under_way, live_node


async def owner(coordinator: LiveCoordinator, running: Running) -> tuple[str, int, str]:
    record: VmRecord = await record_of(coordinator, running)
    return record.node.value, record.epoch, str(record.state)


def runs(*nodes: LiveNode) -> int:
    """How many copies of a VM run."""
    return sum(vm.is_running for node in nodes for vm in node.hypervisor.vms)


HALF_WAY = VmTransfer(1000, 400, 2000, 500, 1500, 100, 2, 0, 0, 0, 0)


async def receive(node: LiveNode, running: Running) -> tuple[str, str, int]:
    info = await node.receive(running.ticket, running.disk.path)
    return info.state, info.reason, info.epoch


async def settled(*nodes: LiveNode) -> None:
    """The coordinator has answered all that was said."""
    with trio.fail_after(DEADLINE_S):
        for node in nodes:
            await node.node.desk.all_recorded()


async def arrived(alpha: LiveNode, beta: LiveNode, running: Running) -> Vm:
    """All of it is at beta, and alpha is held before it wipes its own."""
    alpha.hypervisor.vms[0].may_forget = trio.Event()
    vm = beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until(vm.vm_id, "arrived")
    return vm


async def stayed(coordinator: LiveCoordinator) -> None:
    """A move was given up, on record."""
    with trio.fail_after(DEADLINE_S):
        await coordinator.until("stayed")


async def test_a_running_vm_goes_on_on_another_node_with_what_it_had_in_memory(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    order = alpha.hypervisor.vms[0].order
    alpha.hypervisor.vms[0].memory = b"counted to 17"

    assert await receive(beta, running) == ("running", "", 2)

    assert beta.hypervisor.vms[0].memory == b"counted to 17"
    assert await owner(coordinator, running) == ("beta", 2, "running")
    assert (await alpha.until(running.vm.vm_id, "moved")).reason == "moved"
    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))
    assert runs(alpha, beta) == 1
    events = [event.kind for event in await coordinator.log()]
    assert events[-2:] == ["move", "moved"]


async def test_it_moves_back_and_ends_there(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    assert (await receive(beta, running))[0] == "running"
    await alpha.until(running.vm.vm_id, "moved")

    assert await receive(alpha, running) == ("running", "", 3)

    alpha.hypervisor.vms[-1].end("powered_off")
    await alpha.until(running.vm.vm_id, "ended")
    await settled(alpha, beta)
    assert await owner(coordinator, running) == ("alpha", 3, "ended")


async def test_the_tenant_can_verify_where_it_has_moved(
    coordinator: LiveCoordinator, beta: LiveNode, running: Running
) -> None:
    await receive(beta, running)

    receipt = beta.node.vms.get(running.vm.vm_id).receipt
    launch = verify_launch(receipt, vm=running.vm, trust=trust_of(coordinator))

    assert (launch.node, launch.proof.proof.epoch, launch.release.kind) == ("beta", 2, "moved")


async def test_the_destination_does_not_run_it_before_the_source_has_wiped_it(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    vm = await arrived(alpha, beta, running)

    # It has everything, and waits; the source stands still, and could go on.
    assert runs(alpha, beta) == 0
    assert await owner(coordinator, running) == ("alpha", 1, "running")

    alpha.hypervisor.vms[0].may_forget.set()
    assert (await beta.until(vm.vm_id, "running")).epoch == 2
    assert runs(alpha, beta) == 1


@pytest.mark.parametrize("problem", [HostError("migration_failed", "a device that does not move"), ValueError("a bug")])
async def test_a_source_that_cannot_send_goes_on_alone_and_the_move_can_be_tried_again(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, problem: Exception
) -> None:
    alpha.hypervisor.vms[0].problem = problem

    assert (await receive(beta, running))[0] == "failed"
    await stayed(coordinator)

    assert (await owner(coordinator, running), runs(alpha, beta)) == (("alpha", 1, "running"), 1)
    assert alpha.node.vms.get(running.vm.vm_id).state == "running"
    alpha.hypervisor.vms[0].problem = None
    assert await receive(beta, running) == ("running", "", 2)


async def test_a_destination_that_cannot_take_it_leaves_it_where_it_is(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    beta.hypervisor.problem = HostError("no_memory", "the host has none left")

    assert (await receive(beta, running))[:2] == ("failed", "no_memory")
    await stayed(coordinator)

    assert (await owner(coordinator, running), runs(alpha, beta)) == (("alpha", 1, "running"), 1)


async def test_a_source_that_has_given_a_move_up_says_so_again_when_it_is_prepared_anew(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    """As when the destination's answer got lost, and it asks again for what is over by then."""
    beta.hypervisor.problem = HostError("no_memory", "the host has none left")
    assert (await receive(beta, running))[0] == "failed"
    await stayed(coordinator)
    await settled(alpha, beta)
    record, vm = await record_of(coordinator, running), alpha.node.vms.get(running.vm.vm_id)
    lease = (await coordinator.leases())["beta"]
    claim = KeyClaim(
        ticket=record.ticket,
        tenant_key=record.tenant_key,
        vm_id=record.vm_id,
        images=record.images,
        policy="tvmm",
        version_min=1,
        lease_id=lease.lease_id,
        nonce=vm.move_id,
        at_ms=lease.renewed_ms,
        evidence_since_ms=0,
    )
    move = await coordinator.store.prepare_move(claim, "127.0.0.1:1")

    alpha.node.desk.on_order(MoveOrder(move.vm_id, move.epoch, move.move_id, "beta", move.address, bytes(32)))
    await settled(alpha)

    assert await coordinator.store.move(move.vm_id, claim.at_ms) is None
    assert (vm.state, runs(alpha, beta)) == ("running", 1)


async def test_a_destination_that_gives_up_while_it_waits_for_the_word_has_had_a_vm_that_ended(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    vm = await arrived(alpha, beta, running)
    vm.end("cancelled")
    await beta.until(vm.vm_id, "ended")

    alpha.hypervisor.vms[0].may_forget.set()  # it knows nothing of that, and wipes
    await alpha.until(running.vm.vm_id, "moved")
    with trio.fail_after(DEADLINE_S):
        await coordinator.until("stop")

    assert (await owner(coordinator, running), runs(alpha, beta)) == (("beta", 2, "ended"), 0)


async def test_both_ends_show_how_far_it_is_and_the_destination_what_it_took(
    alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    alpha.hypervisor.vms[0].may_send = trio.Event()
    vm = beta.node.vms.receive(running.ticket, [running.disk.path])

    for node, state in ((alpha, "moving"), (beta, "arriving")):
        info = await node.until_told(running.vm.vm_id, is_under_way)
        assert (info.state, info.transfer) == (state, HALF_WAY)

    alpha.hypervisor.vms[0].may_send.set()
    took = (await beta.until(vm.vm_id, "running")).transfer
    assert took is not None
    assert (took.state_sent_bytes, took.disk_sent_bytes, took.memory_left_bytes) == (2500, 600, 0)
    assert 7 <= took.still_ms <= took.total_ms


@pytest.mark.parametrize("where", ["source", "destination"])
async def test_a_move_that_is_cancelled_leaves_the_vm_where_it_is_and_nothing_elsewhere(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, where: str
) -> None:
    alpha.hypervisor.vms[0].may_send = trio.Event()
    vm = beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until_told(running.vm.vm_id, is_under_way)
    assert list(beta.hypervisor.folder.glob("beta-*.state"))

    node = alpha if where == "source" else beta
    node.node.vms.give_up(node.node.vms.get(running.vm.vm_id))

    assert (await beta.until(vm.vm_id, "ended", "failed")).state == ("failed" if where == "source" else "ended")
    assert (await alpha.until(running.vm.vm_id, "running")).state == "running"
    await stayed(coordinator)
    assert (await owner(coordinator, running), runs(alpha, beta)) == (("alpha", 1, "running"), 1)
    with trio.fail_after(DEADLINE_S):
        while list(beta.hypervisor.folder.glob("beta-*.state")):  # noqa: ASYNC110 - files have no event
            await trio.sleep(0.01)
    alpha.hypervisor.vms[0].may_send = None
    assert await receive(beta, running) == ("running", "", 2)


async def test_a_move_is_not_cancelled_once_everything_has_come(
    alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    vm = await arrived(alpha, beta, running)

    with pytest.raises(LaunchError, match="too_late"):
        beta.node.vms.give_up(vm)

    alpha.hypervisor.vms[0].may_forget.set()
    assert (await beta.until(vm.vm_id, "running")).epoch == 2
    with pytest.raises(LaunchError, match="too_late"):
        beta.node.vms.give_up(vm)


async def test_a_destination_that_was_revoked_meanwhile_gets_nothing(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    vm = await arrived(alpha, beta, running)

    await coordinator.ask(c.RevokeNode(name="beta", reason="sold"), c.NodeInfo)
    await beta.until(vm.vm_id, "ended", "failed")
    alpha.hypervisor.vms[0].may_forget.set()
    assert (await alpha.until(running.vm.vm_id, "failed")).reason == "destination_lost"

    assert (await owner(coordinator, running), runs(alpha, beta)) == (("alpha", 1, "ended"), 0)
    assert (await record_of(coordinator, running)).end_reason == "destination_lost"


async def test_a_source_that_is_revoked_meanwhile_gives_it_to_nobody(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running
) -> None:
    await arrived(alpha, beta, running)

    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)
    await alpha.until(running.vm.vm_id, "ended", "failed")

    assert (await owner(coordinator, running))[2] == "lost"
    assert runs(alpha, beta) == 0


@pytest.mark.parametrize("which", ["source", "destination"])
async def test_a_broken_connection_to_the_coordinator_delays_a_move_and_no_more(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, which: str
) -> None:
    vm = await arrived(alpha, beta, running)
    node = alpha if which == "source" else beta
    session = next(s for s in coordinator.services.sessions.judged_by("tvmm") if s.node.value == node.node.config.name)

    session.scope.cancel()
    alpha.hypervisor.vms[0].may_forget.set()

    assert (await beta.until(vm.vm_id, "running")).epoch == 2
    await alpha.until(running.vm.vm_id, "moved")
    assert runs(alpha, beta) == 1


async def test_only_where_its_ticket_allows_and_only_by_its_ticket(
    alpha: LiveNode, beta: LiveNode, tenant: Tenant, running: Running
) -> None:
    strict, _ = tenant.ticket([running.disk], running.vm, policy=PolicyDemand("strict", 1, {}))

    info = await beta.receive(ticket_file(strict), running.disk.path)

    assert (info.state, info.reason) == ("failed", "policy_not_demanded")
    other, _ = tenant.ticket([running.disk], running.vm)
    assert (await beta.receive(ticket_file(other), running.disk.path)).reason == "another_ticket"
    assert runs(alpha, beta) == 1


async def test_a_node_that_is_not_configured_for_it_receives_nothing(
    coordinator: LiveCoordinator, alpha: LiveNode, other_host: NodeTpm, running: Running, tmp_path: Path
) -> None:
    await coordinator.enrol("gamma", other_host)
    async with live_node(coordinator, "gamma", other_host, tmp_path, move_address=None) as gamma:
        assert (await receive(gamma, running))[:2] == ("failed", "moves_not_configured")
    assert runs(alpha) == 1


async def test_a_stream_that_is_diverted_to_another_node_of_the_perimeter_carries_nothing(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address leads to beta's boot, whose lease is genuine, while the coordinator meant another key."""
    open_lease = coordinator.services.store.open_lease

    async def of_another(name: NodeName) -> LeaseRecord | None:
        lease = await open_lease(name)
        return lease and replace(lease, tls_spki_sha256=b"\x01" * 32)

    monkeypatch.setattr(coordinator.services.store, "open_lease", of_another)

    vm = beta.node.vms.receive(running.ticket, [running.disk.path])
    await stayed(coordinator)

    assert "another_peer" in alpha.node.vms.get(running.vm.vm_id).detail
    assert not beta.hypervisor.vms
    assert await owner(coordinator, running) == ("alpha", 1, "running")
    vm.end("cancelled")


async def test_a_stranger_who_looks_in_and_is_gone_again_ends_no_arrival(beta: LiveNode) -> None:
    """As a scan of ports does: connected, and reset before anybody has answered."""
    async with beta.node.vms._peers.waiting() as waiting, trio.open_nursery() as nursery:
        with socket.create_connection(waiting.listener.socket.getsockname()) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        async def wait_for_source() -> None:
            async with waiting.accepted(bytes(32), bytes(32), 1):
                raise AssertionError("nobody has come")

        nursery.start_soon(wait_for_source)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with socket.create_connection(waiting.listener.socket.getsockname()) as stranger:
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert nursery.child_tasks
        nursery.cancel_scope.cancel()
