"""Keys go to the node that a ticket entitles to them, once, after fresh evidence; each other way is refused."""

import hashlib
import os
import time
from pathlib import Path

import msgspec
import pytest
import trio

from tccp.config import ReleaseConfig
from tccp.coordinator.launch import REQUESTS_MAX
from tccp.errors import HostError, LaunchError, ProtocolError
from tccp.model import NodeName, PcrBank
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.messages import KeyRefused, KeyRelease, RenewalChallenge
from tccp.protocol.ticket import PolicyDemand, SignedTicket, sign_ticket, verify_ticket
from tccp.store import Renewal, VmState
from tccp.transparency.receipt import decode_receipt, verify_receipt
from tccp.transport.connection import RefusalError
from tests.support.launching import AskingNode, SealedFile, Tenant, trust_of
from tests.support.live_coordinator import ZERO, LiveCoordinator, open_host
from tests.support.soft_tpm import SoftTpmPool

EVIL = b"\xee" * 32


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, host: NodeTpm) -> AskingNode:
    """Admitted."""
    await coordinator.enrol("alpha", host)
    node = AskingNode(coordinator, "alpha", host)
    await node.register()
    return node


@pytest.fixture
async def beta(coordinator: LiveCoordinator, other_host: NodeTpm) -> AskingNode:
    """Another node, admitted."""
    await coordinator.enrol("beta", other_host)
    node = AskingNode(coordinator, "beta", other_host)
    await node.register()
    return node


@pytest.fixture
async def tenant(coordinator: LiveCoordinator, tmp_path: Path) -> Tenant:
    """Enrolled."""
    tenant = Tenant.of(tmp_path, coordinator)
    await tenant.enrol(coordinator)
    return tenant


@pytest.fixture
def disk(tenant: Tenant) -> SealedFile:
    """An image of the tenant."""
    return tenant.seal("disk", b"a disk of hers" * 1000)


async def kinds(coordinator: LiveCoordinator) -> list[str]:
    return [event.kind for event in await coordinator.log()]


async def nothing_was_released(coordinator: LiveCoordinator) -> bool:
    return "release" not in await kinds(coordinator) and not await coordinator.store.vms()


def forged(signed: SignedTicket, **changes: object) -> SignedTicket:
    """The ticket with other words in it, under the signature that it had."""
    ticket = verify_ticket(signed.ticket, signed.signature).ticket
    return SignedTicket(msgspec.msgpack.encode(msgspec.structs.replace(ticket, **changes)), signed.signature)


# ---- what ought to happen


async def test_the_node_of_a_ticket_gets_the_keys_that_its_tenant_wrapped(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])

    keys = await alpha.keys(signed)

    image_key = tenant.unlock(disk).key
    assert keys == [vm.vm_key, bytes(image_key.buffer)]
    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    assert (record.state, record.node, record.epoch) == (VmState.RUNNING, NodeName("alpha"), 1)


async def test_the_release_is_in_the_published_log_before_the_node_has_the_keys(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    release = await alpha.ask(alpha.request(signed))
    assert isinstance(release, KeyRelease)

    trust = trust_of(coordinator)
    entry = verify_receipt(release.receipt, origin=trust.origin, log_key=trust.log_key)

    assert entry.details is not None
    assert (entry.kind, entry.details["node"], entry.details["vm_id"]) == ("release", "alpha", vm.vm_id)
    assert entry.details["identity_sha256"] == hashlib.sha256(alpha.identity.statement).digest()
    assert entry.details["ticket"] == hashlib.sha256(signed.ticket).digest()
    assert not entry.public


async def test_a_node_that_asks_again_after_a_lost_answer_gets_the_same_epoch(
    alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    request = alpha.request(tenant.ticket([disk])[0])
    first = await alpha.ask(request)
    await alpha.register()  # the connection broke

    again = await alpha.ask(request)

    assert isinstance(first, KeyRelease)
    assert isinstance(again, KeyRelease)
    # The same entry, under whatever checkpoint is the newest.
    assert (again.epoch, decode_receipt(again.receipt).entry) == (1, decode_receipt(first.receipt).entry)
    assert len(alpha.open(request, again)) == 2


async def test_a_vm_that_has_ended_starts_again_with_another_ticket_and_its_disk(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)
    next_one, vm = tenant.ticket([disk], vm)
    assert await beta.reason(next_one) == "vm_running"

    await alpha.end(vm, disk_root=b"r" * 32)
    release = await beta.ask(beta.request(next_one))

    assert isinstance(release, KeyRelease)
    assert (release.epoch, release.disk_root) == (2, b"r" * 32)
    assert (await kinds(coordinator))[-3:] == ["release", "stop", "release"]


async def test_keys_are_asked_for_while_a_renewal_is_under_way(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await coordinator.challenge_now("alpha")
    challenge = await alpha.receive(RenewalChallenge)
    request = alpha.request(tenant.ticket([disk])[0])
    await alpha.connection.send(request)
    await alpha.connection.send(await alpha.answer_renewal(challenge))

    assert isinstance(await alpha.answer_until_told(request.nonce), KeyRelease)


# ---- fresh evidence


async def age_evidence(coordinator: LiveCoordinator, name: str) -> None:
    """Have the record say that the node's last evidence is of ten minutes ago."""
    lease = (await coordinator.leases())[name]
    aged = Renewal(
        lease.lease_id,
        lease.renewed_ms - 600_000,
        lease.expires_ms,
        lease.reset_count,
        lease.restart_count,
        lease.clock_ms,
        lease.policy,
        lease.policy_version,
    )
    assert await coordinator.store.renew_all([aged]) == [None]


def accept_evidence_of(coordinator: LiveCoordinator, age_s: int) -> None:
    """As a reload does it: evidence of this age is good enough."""
    releases = ReleaseConfig(evidence_age_s=age_s)
    coordinator.services.config = msgspec.structs.replace(coordinator.services.config, releases=releases)


async def test_a_node_quotes_anew_for_each_release(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    for number in (1, 2):
        await alpha.keys(tenant.ticket([disk])[0])
        assert alpha.challenges == number


async def test_a_node_with_old_evidence_quotes_before_it_gets_keys(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    accept_evidence_of(coordinator, 60)
    await alpha.keys(tenant.ticket([disk])[0])
    assert alpha.challenges == 0
    await age_evidence(coordinator, "alpha")

    await alpha.keys(tenant.ticket([disk])[0])

    assert alpha.challenges == 1


async def test_a_node_that_was_tampered_with_since_its_last_evidence_gets_none(
    soft_tpms: SoftTpmPool, coordinator: LiveCoordinator, tenant: Tenant, disk: SealedFile
) -> None:
    with soft_tpms.lend() as tpm:
        async with open_host(tpm) as host:
            await coordinator.enrol("gamma", host)
            gamma = AskingNode(coordinator, "gamma", host)
            await gamma.register()
            await host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)
            accept_evidence_of(coordinator, 60)
            await gamma.keys(tenant.ticket([disk])[0])  # the control: within such a bound nobody looks
            accept_evidence_of(coordinator, 0)

            with pytest.raises(RefusalError, match="pcr_not_in_policy"):
                await gamma.ask(gamma.request(tenant.ticket([disk])[0]))

    assert (await kinds(coordinator)).count("release") == 1


async def test_a_quote_of_before_that_comes_in_afterwards_is_not_fresh(
    soft_tpms: SoftTpmPool, coordinator: LiveCoordinator, tenant: Tenant, disk: SealedFile
) -> None:
    """The node was asked and quoted, is tampered with, asks for keys, and only then hands its answer in."""
    with soft_tpms.lend() as tpm:
        async with open_host(tpm) as host:
            await coordinator.enrol("gamma", host)
            gamma = AskingNode(coordinator, "gamma", host)
            await gamma.register()
            await coordinator.add_policy({0: ZERO, 4: ZERO}, version=2)  # has it asked at once
            answer = await gamma.answer_renewal(await gamma.receive(RenewalChallenge))
            await host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)

            request = gamma.request(tenant.ticket([disk])[0])
            await gamma.connection.send(request)
            await gamma.connection.send(answer)
            with pytest.raises(RefusalError, match="pcr_not_in_policy"):
                await gamma.answer_until_told(request.nonce)

    assert await nothing_was_released(coordinator)


async def test_evidence_that_an_older_policy_judged_is_asked_for_again(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk], policy=PolicyDemand("tvmm", 2, {}))
    assert await alpha.reason(signed) == "policy_not_demanded"

    await coordinator.add_policy({0: ZERO}, version=2)

    assert len(await alpha.keys(signed)) == 2


# ---- what the cloud manager may try with a ticket


@pytest.mark.parametrize(
    "change",
    [
        {"not_after_s": int(time.time()) + 300 * 86_400},
        {"nonce": bytes(32)},
        {"vm_id": b"another machine."},
        {"policy": PolicyDemand("lenient", 1, {})},
        {"attributes": {"site": "elsewhere"}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_edited_ticket_is_refused(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile, change: dict[str, object]
) -> None:
    signed, _ = tenant.ticket([disk])

    assert await alpha.reason(forged(signed, **change)) == "ticket_signature"

    assert await nothing_was_released(coordinator)
    await alpha.keys(signed)  # the control: it is the edit that was refused


async def test_a_ticket_under_a_key_of_the_cloud_managers_own_is_a_strangers(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile, tmp_path: Path
) -> None:
    signed, _ = tenant.ticket([disk])
    manager = Tenant.of(tmp_path, coordinator)
    stolen = verify_ticket(signed.ticket, signed.signature).ticket
    hers = sign_ticket(msgspec.structs.replace(stolen, tenant_key=bytes(manager.key.verify_key)), manager.key)

    assert await alpha.reason(hers) == "keys_unopened"

    # Even as an enrolled tenant she cannot have the keys of another wrapped to a node under her name.
    await manager.enrol(coordinator, "manager")
    assert await alpha.reason(hers) == "keys_unopened"
    assert await nothing_was_released(coordinator)


async def test_if_the_box_were_not_bound_to_its_tenant_the_cloud_manager_would_get_the_keys(  # noqa: PLR0917
    coordinator: LiveCoordinator,
    alpha: AskingNode,
    tenant: Tenant,
    disk: SealedFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: the same theft, with the binding left out on both sides."""
    for place in ("tccp.coordinator.launch", "tccp.tenant.vm_file"):
        monkeypatch.setattr(f"{place}.keys_info", lambda *_: b"bound to nothing")
    signed, vm = tenant.ticket([disk])
    manager = Tenant.of(tmp_path, coordinator)
    await manager.enrol(coordinator, "manager")
    stolen = verify_ticket(signed.ticket, signed.signature).ticket
    hers = msgspec.structs.replace(stolen, tenant_key=bytes(manager.key.verify_key), vm_id=b"her own machine.")

    assert (await alpha.keys(sign_ticket(hers, manager.key)))[0] == vm.vm_key


async def test_if_released_keys_were_bound_to_nothing_an_old_release_would_open_for_another_request(
    alpha: AskingNode, tenant: Tenant, disk: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with the binding, `open` refuses (below, after a reboot and under another lease)."""
    for place in ("tccp.coordinator.launch", "tests.support.launching"):
        monkeypatch.setattr(f"{place}.release_info", lambda *_: b"bound to nothing")
    request = alpha.request(tenant.ticket([disk])[0])
    release = await alpha.ask(request)
    assert isinstance(release, KeyRelease)

    alpha.lease_id = os.urandom(16)

    assert len(alpha.open(alpha.request(tenant.ticket([disk])[0]), release)) == 2


async def test_a_stranger_is_told_so(coordinator: LiveCoordinator, alpha: AskingNode, tmp_path: Path) -> None:
    stranger = Tenant.of(tmp_path, coordinator)
    signed, _ = stranger.ticket([stranger.seal("disk", b"x")])

    assert await alpha.reason(signed) == "tenant_unknown"

    await stranger.enrol(coordinator)
    await alpha.keys(signed)


async def test_keys_that_were_swapped_between_two_vms_of_one_tenant_do_not_open(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    """The tenant's own mistake, or her stolen signing key: the box is bound to the VM and the images."""
    one = verify_ticket(*_parts(tenant.ticket([disk])[0])).ticket
    other = verify_ticket(*_parts(tenant.ticket([tenant.seal("other", b"other")])[0])).ticket
    mixed = sign_ticket(msgspec.structs.replace(one, wrapped_keys=other.wrapped_keys), tenant.key)

    assert await alpha.reason(mixed) == "keys_unopened"
    assert await nothing_was_released(coordinator)


def _parts(signed: SignedTicket) -> tuple[bytes, bytes]:
    return signed.ticket, signed.signature


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"coordinator_id": bytes(32)}, "ticket_for_another_coordinator"),
        ({"not_before_s": int(time.time()) + 1000}, "ticket_not_yet_valid"),
        ({"not_after_s": int(time.time()) - 10}, "ticket_expired"),
        ({"policy": PolicyDemand("strict", 1, {})}, "policy_not_demanded"),
        ({"policy": PolicyDemand("tvmm", 2, {})}, "policy_not_demanded"),
        ({"attributes": {"site": "delft"}}, "attribute_not_demanded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_the_ticket_demands_is_demanded(  # noqa: PLR0917
    coordinator: LiveCoordinator,
    alpha: AskingNode,
    tenant: Tenant,
    disk: SealedFile,
    terms: dict[str, object],
    reason: str,
) -> None:
    assert await alpha.reason(tenant.ticket([disk], **terms)[0]) == reason
    assert await nothing_was_released(coordinator)


async def test_a_ticket_is_not_used_up_by_a_refusal(
    alpha: AskingNode, beta: AskingNode, tenant: Tenant, coordinator: LiveCoordinator, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk], policy=PolicyDemand("tvmm", 2, {}))
    assert await alpha.reason(signed) == "policy_not_demanded"
    await coordinator.add_policy({0: ZERO, 4: ZERO}, version=2)

    await beta.keys(signed)


async def test_a_replayed_ticket_starts_nothing(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)

    assert await alpha.reason(signed) == "ticket_used"
    assert await beta.reason(signed) == "ticket_used"
    await alpha.end(vm)
    assert await beta.reason(signed) == "ticket_used"

    assert (await kinds(coordinator)).count("release") == 1


async def test_of_two_nodes_that_ask_at_once_one_gets_the_vm(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    for number in range(10):
        signed, _ = tenant.ticket([disk])
        answers: list[KeyRelease | KeyRefused] = []

        async def ask(node: AskingNode, signed: SignedTicket, answers: list[KeyRelease | KeyRefused]) -> None:
            answers.append(await node.ask(node.request(signed)))

        async with trio.open_nursery() as nursery:
            for node in (alpha, beta):
                nursery.start_soon(ask, node, signed, answers)

        released = [answer for answer in answers if isinstance(answer, KeyRelease)]
        refused = [answer.reason for answer in answers if isinstance(answer, KeyRefused)]
        assert (len(released), refused) == (1, ["ticket_used"])
        assert (await kinds(coordinator)).count("release") == number + 1


# ---- what the cloud manager may try with nodes


async def test_a_node_that_is_not_admitted_cannot_even_ask(
    coordinator: LiveCoordinator, other_host: NodeTpm, tenant: Tenant, disk: SealedFile
) -> None:
    stranger = AskingNode(coordinator, "beta", other_host)
    request = stranger.request(tenant.ticket([disk])[0])
    for step in ("connection", "hello"):
        await stranger.go_until(step)
        await stranger.say(_framed(request))
        with pytest.raises((ProtocolError, HostError, RefusalError)):
            await stranger.receive(KeyRelease)

    assert await nothing_was_released(coordinator)


def _framed(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


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
    await alpha.say(_framed(alpha.request(signed)) * (4 * REQUESTS_MAX))

    with pytest.raises((HostError, ProtocolError)):
        await _receive_for_ever(alpha)

    assert (await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)).nodes_enrolled == 1


async def _receive_for_ever(node: AskingNode) -> None:
    while True:
        await node.connection.receive_any()


# ---- tenants


async def test_operators_take_tenants_in_and_out(coordinator: LiveCoordinator, tenant: Tenant) -> None:
    found = await coordinator.ask(v.ListTenants(), v.Tenants)
    assert [(info.name, info.key) for info in found.tenants] == [("acme", bytes(tenant.key.verify_key))]

    await coordinator.ask(v.RemoveTenant(name="acme"), v.TenantInfo)

    assert not (await coordinator.ask(v.ListTenants(), v.Tenants)).tenants
    assert (await kinds(coordinator))[-2:] == ["tenant", "tenant"]


async def test_operators_see_who_owns_which_vm(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)
    await alpha.end(vm)

    (found,) = (await coordinator.ask(v.ListOwnedVms(), v.OwnedVms)).vms

    assert (found.vm_id, found.tenant, found.node, found.state) == (vm.vm_id, "acme", "alpha", "ended")
