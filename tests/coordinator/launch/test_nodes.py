"""What a cloud manager may try with nodes: none but the one that a ticket is for, as it is now, gets keys."""

import os
import time
from pathlib import Path

import pytest

from tccp.coordinator.launch import REQUESTS_MAX
from tccp.errors import HostError, LaunchError, ProtocolError
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import KeyRefused, KeyRelease
from tccp.store import KeyClaim, VmRecord, VmState
from tccp.transport.connection import RefusalError
from tests.coordinator.launch.support import accept_evidence_of, framed, nothing_was_released
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import ZERO, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm

HOUR_S = 3600


async def test_a_node_that_is_not_admitted_cannot_even_ask(
    coordinator: LiveCoordinator, other_host: NodeTpm, tenant: Tenant, disk: SealedFile
) -> None:
    stranger = AskingNode(coordinator, "beta", other_host)
    request = stranger.request(tenant.ticket([disk])[0])
    for step in ("connection", "hello"):
        await stranger.go_until(step)
        await stranger.say(framed(request))
        with pytest.raises((ProtocolError, HostError, RefusalError)):
            await stranger.receive(KeyRelease)

    assert await nothing_was_released(coordinator)


async def test_a_revoked_node_gets_none(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)

    with pytest.raises((RefusalError, HostError)):
        await alpha.ask(alpha.request(tenant.ticket([disk])[0]))

    assert await nothing_was_released(coordinator)


async def test_a_node_whose_lease_has_lapsed_gets_none_though_its_connection_stands(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    accept_evidence_of(coordinator, 60)
    lease = (await coordinator.leases())["alpha"]
    await coordinator.store.lapse_leases(lease.expires_ms)

    assert await alpha.reason(tenant.ticket([disk])[0]) == "lease_ended"


async def test_a_lease_of_another_node_is_of_no_use(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    """A request names no lease: the coordinator takes that of the connection, and wraps the keys to its boot."""
    request = beta.request(tenant.ticket([disk])[0])
    release = await beta.ask(request)
    assert isinstance(release, KeyRelease)

    alpha.lease_id, beta_lease = beta.lease_id, beta.lease_id
    with pytest.raises(LaunchError, match="keys_unopened"):
        alpha.open(request, release)

    beta.lease_id = os.urandom(16)
    with pytest.raises(LaunchError, match="keys_unopened"):
        beta.open(request, release)
    beta.lease_id = beta_lease
    assert len(beta.open(request, release)) == 2


async def test_a_captured_release_is_of_no_use_after_a_reboot(
    coordinator: LiveCoordinator, alpha: AskingNode, host: NodeTpm, tenant: Tenant, disk: SealedFile
) -> None:
    request = alpha.request(tenant.ticket([disk])[0])
    captured = await alpha.ask(request)
    assert isinstance(captured, KeyRelease)

    rebooted = AskingNode(coordinator, "alpha", host)
    await rebooted.register()

    with pytest.raises(LaunchError, match="keys_unopened"):
        rebooted.open(request, captured)
    own_lease, rebooted.lease_id = rebooted.lease_id, alpha.lease_id
    with pytest.raises(LaunchError, match="keys_unopened"):
        rebooted.open(request, captured)
    rebooted.lease_id = own_lease
    refusal = await rebooted.ask(request)
    assert isinstance(refusal, KeyRefused)
    assert refusal.reason == "ticket_used"
    assert len(alpha.open(request, captured)) == 2  # the control: the boot that it was released to


async def test_a_vm_of_a_node_that_is_gone_is_free_only_when_that_node_must_have_stopped_it(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)
    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)

    assert await beta.reason(tenant.ticket([disk], vm)[0]) == "vm_not_free"

    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    assert (record.state, record.end_reason) == (VmState.LOST, "revoked")
    assert record.free_ms > (await coordinator.leases())["beta"].renewed_ms + 60_000


async def test_a_coordinator_that_starts_with_its_clock_set_forward_frees_no_vm(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=60) as before:
        await before.add_policy({0: ZERO})
        await before.enrol("alpha", host)
        alpha, tenant = AskingNode(before, "alpha", host), Tenant.of(tmp_path, before)
        await alpha.register()
        await tenant.enrol(before)
        signed, vm = tenant.ticket([tenant.seal("disk", b"a disk of hers" * 1000)])
        await alpha.keys(signed)
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + HOUR_S)

    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=60) as after:
        await after.until("end")  # by this clock the lease is over; on its node it holds on, and the VM runs

        record = await after.store.vm(vm.vm_id)
        assert record is not None
        assert record.state == VmState.LOST
        assert record.free_ms > after.services.clock.now_ms() + 60_000  # what was left of the lease, and 35 s


async def test_a_node_cannot_end_the_vm_of_another(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)

    await beta.end(vm)

    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    assert record.state == VmState.RUNNING


async def test_a_node_that_does_not_wait_for_answers_is_put_off(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk])
    await alpha.say(b"".join(framed(alpha.request(signed)) for _ in range(4 * REQUESTS_MAX)))

    with pytest.raises((HostError, ProtocolError)):
        await _receive_for_ever(alpha)

    assert (await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)).nodes_enrolled == 1


async def test_what_a_node_asks_again_meanwhile_is_answered_once(
    alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    request = alpha.request(signed)
    await alpha.say(framed(request) * (4 * REQUESTS_MAX))

    assert isinstance(await alpha.answer_until_told(request.nonce), KeyRelease)

    await alpha.end(vm)  # whose answer is the next thing that is said


async def test_a_bug_that_a_node_brings_out_costs_that_node_its_connection_and_nobody_else_anything(  # noqa: PLR0917
    coordinator: LiveCoordinator,
    alpha: AskingNode,
    beta: AskingNode,
    tenant: Tenant,
    disk: SealedFile,
    bugs: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: object, claim: KeyClaim) -> VmRecord:
        monkeypatch.undo()
        raise ValueError("a bug")

    signed, vm = tenant.ticket([disk])
    monkeypatch.setattr(type(coordinator.store), "release", fail)
    with pytest.raises((HostError, ProtocolError)):
        await alpha.keys(signed)
    assert "a bug" in bugs.pop()

    await beta.keys(signed)

    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    assert str(record.node) == "beta"


async def _receive_for_ever(node: AskingNode) -> None:
    while True:
        await node.connection.receive_any()
