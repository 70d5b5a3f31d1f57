"""A node's VMs: launched by tickets, proved to tenants, ended with the lease, given back when nobody wants them."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio

from tccp.config import NodeCoordinatorConfig
from tccp.control.client import ControlClient
from tccp.coordinator.launch import REQUESTS_MAX
from tccp.errors import EnrolmentError, HostError, LaunchError, LogError
from tccp.model import NodeName
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.encoding import encode
from tccp.protocol.launch_proof import read_launch_receipt
from tccp.protocol.ticket import PolicyDemand, SignedTicket
from tccp.store import EventRecord, VmRecord
from tccp.tenant.launch import verify_launch
from tccp.tenant.vm_file import VmFile, new_vm
from tccp.transparency.note import NoteKey
from tccp.transport.certificates import fresh_key, spki_of_key
from tests.support.launching import DISK, KERNEL, SealedFile, Tenant, ticket_file, trust_of
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode

CONTENT = b"plaintext of a tenant, the canary"


@pytest.fixture
def disk(tenant: Tenant) -> SealedFile:
    """An image of the tenant."""
    return tenant.seal("disk", CONTENT)


async def record_of(coordinator: LiveCoordinator, vm: VmFile) -> VmRecord:
    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    return record


async def last(coordinator: LiveCoordinator, kind: str) -> EventRecord:
    with trio.fail_after(DEADLINE_S):
        await coordinator.until(kind)
    return [event for event in await coordinator.log() if event.kind == kind][-1]


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


# ---- the end


async def test_a_vm_that_ends_leaves_no_key_and_the_coordinator_knows(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    order = alpha.hypervisor.vms[0].order

    alpha.hypervisor.vms[0].end("crashed")
    info = await alpha.until(vm.vm_id, "ended")
    event = await last(coordinator, "stop")

    assert info.reason == "crashed"
    assert all(key.is_wiped for key in (order.keys.vm_key, *order.keys.images))
    assert msgspec.msgpack.decode(event.body)["reason"] == "crashed"
    assert (await record_of(coordinator, vm)).state == "ended"
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
    await last(coordinator, "stop")


async def test_a_machine_that_does_not_start_is_given_back(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    alpha.hypervisor.problem = HostError("no_memory", "the host has none left")

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.reason) == ("failed", "no_memory")
    await last(coordinator, "stop")
    assert (await record_of(coordinator, vm)).end_reason == "no_memory"


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
    assert (await record_of(coordinator, vm)).state == "lost"


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


def cut(coordinator: LiveCoordinator) -> None:
    """Break the connection of alpha."""
    session = coordinator.services.sessions.get(NodeName("alpha"))
    assert session is not None
    session.scope.cancel()


def _nowhere(alpha: LiveNode) -> NodeCoordinatorConfig:
    return msgspec.structs.replace(alpha.node.config.coordinator, address="127.0.0.1:1")


async def test_a_vm_outlives_a_broken_connection(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    before = (await record_of(coordinator, vm)).lease_id

    cut(coordinator)
    with trio.fail_after(DEADLINE_S):
        while (record := await record_of(coordinator, vm)).lease_id == before:  # noqa: ASYNC110
            await trio.sleep(0.02)

    assert record.state == "running"
    assert alpha.node.vms.get(vm.vm_id).state == "running"


# ---- what has no answer yet


async def test_an_answer_that_was_lost_is_asked_for_again_on_the_next_connection(
    coordinator: LiveCoordinator,
    alpha: LiveNode,
    tenant: Tenant,
    disk: SealedFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signed, vm = tenant.ticket([disk])
    receipt = coordinator.services.log.receipt

    async def cut_first(seq: int) -> bytes:
        monkeypatch.setattr(coordinator.services.log, "receipt", receipt)
        cut(coordinator)  # the transaction is done, the keys are not sent
        return await receipt(seq)

    monkeypatch.setattr(coordinator.services.log, "receipt", cut_first)
    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.epoch) == ("running", 1)
    assert [event.kind for event in await coordinator.log()].count("release") == 1
    assert (await record_of(coordinator, vm)).state == "running"


async def test_a_request_that_was_given_up_while_its_answer_got_lost_is_asked_again_and_given_back(
    coordinator: LiveCoordinator,
    alpha: LiveNode,
    tenant: Tenant,
    disk: SealedFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the VM would be this node's for as long as its lease holds, and nobody would run it."""
    signed, vm = tenant.ticket([disk])
    receipt = coordinator.services.log.receipt

    async def cut_first(seq: int) -> bytes:
        monkeypatch.setattr(coordinator.services.log, "receipt", receipt)
        alpha.node.vms.get(vm.vm_id).end("cancelled")
        cut(coordinator)
        return await receipt(seq)

    monkeypatch.setattr(coordinator.services.log, "receipt", cut_first)
    assert (await alpha.launch(ticket_file(signed), disk.path)).reason == "cancelled"

    await last(coordinator, "stop")
    assert (await record_of(coordinator, vm)).state == "ended"
    assert not alpha.hypervisor.vms


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
    await last(coordinator, "stop")
    assert (await record_of(coordinator, vm)).state == "ended"


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


# ---- the tenant's proof


def receipt_of(alpha: LiveNode, vm: VmFile) -> bytes:
    return alpha.node.vms.get(vm.vm_id).receipt


async def test_the_tenant_verifies_the_launch_offline(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)

    launch = verify_launch(receipt_of(alpha, vm), vm=vm, trust=trust_of(coordinator))

    assert (launch.node, launch.policy) == ("alpha", ("tvmm", 1))
    assert launch.proof.identity.boot_id == alpha.node.identity.boot_id
    assert launch.vtpm is not None
    assert (launch.vtpm.claim.vm_id, launch.vtpm.claim.images) == (vm.vm_id, (("disk", tenant.unlock(disk).info.root),))
    assert launch.evidence_ms <= launch.released_ms


async def test_a_receipt_of_another_vm_ticket_coordinator_or_log_is_refused(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    trust = trust_of(coordinator)
    signed, vm = tenant.ticket([disk])
    other_ticket, other = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    await alpha.launch(ticket_file(other_ticket), disk.path)
    content = receipt_of(alpha, vm)
    receipt, others = read_launch_receipt(content), read_launch_receipt(receipt_of(alpha, other))

    def refused(reason: str, found: bytes, *, own: VmFile = vm, **changed: object) -> None:
        with pytest.raises((LaunchError, LogError), match=reason):
            verify_launch(found, vm=own, trust=replace(trust, **changed))  # type: ignore[arg-type]

    refused("another_ticket", content, own=other)
    refused("another_ticket", content, own=new_vm())
    stolen = VmFile(vm.vm_id, bytes(32), vm.tickets)
    refused("proof_mac", content, own=stolen)
    refused("release_mismatch", encode(msgspec.structs.replace(receipt, log_receipt=others.log_receipt)))
    refused("proof_mac", encode(msgspec.structs.replace(receipt, proof=others.proof, mac=others.mac)))
    refused("ticket_for_another_coordinator", content, coordinator_id=bytes(32))
    refused("unsigned", content, log_key=NoteKey(trust.origin, bytes(31) + b"\x01"))
    head = verify_launch(content, vm=vm, trust=trust).release.checkpoint.checkpoint
    refused("fork", content, seen=replace(head, root=bytes(32)))
    verify_launch(content, vm=vm, trust=replace(trust, seen=head))


@pytest.mark.parametrize("lie", ["vm", "images", "boot"])
async def test_a_vtpm_that_is_not_this_vms_is_found_out(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile, lie: str
) -> None:
    hypervisor, (signed, vm) = alpha.hypervisor, tenant.ticket([disk])
    root = tenant.unlock(disk).info.root
    issuer = hypervisor.issuer
    claim = issuer.claim(bytes(16) if lie == "vm" else vm.vm_id, (("disk", bytes(32) if lie == "images" else root),))
    if lie == "boot":
        claim = replace(claim, statement_sha256=bytes(32))
    certificate = issuer.certify("ek", spki_of_key(fresh_key()), claim, now=dt.datetime.now(tz=dt.UTC))
    hypervisor.certify = lambda _: certificate  # type: ignore[method-assign]
    await alpha.launch(ticket_file(signed), disk.path)

    with pytest.raises((LaunchError, EnrolmentError), match="another_identity" if lie == "boot" else "vtpm_mismatch"):
        verify_launch(receipt_of(alpha, vm), vm=vm, trust=trust_of(coordinator))


# ---- what the cloud manager has


async def test_nothing_that_the_cloud_manager_stored_or_relayed_is_secret(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile, tmp_path: Path
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)
    image_key = bytes(alpha.hypervisor.vms[0].order.keys.images[0].buffer)
    secrets = {"vm key": vm.vm_key, "image key": image_key, "plaintext": CONTENT, "seed": bytes(tenant.key)}

    info = await alpha.ask(v.ShowVm(vm_id=vm.vm_id), v.VmInfo)
    handed = {
        "ticket": ticket_file(signed),
        "image": disk.path.read_bytes(),
        "receipt": receipt_of(alpha, vm),
        "answer": encode(info),
        "list": encode(await alpha.ask(v.ListVms(), v.Vms)),
        "log of the node": encode(await alpha.ask(c.GetStatus(), c.NodeStatus)),
    }

    found = [(what, where) for where, data in handed.items() for what, secret in secrets.items() if secret in data]
    found += [
        (what, where) for where, data in handed.items() for what, it in secrets.items() if it.hex().encode() in data
    ]
    assert not found
    # The control: the search finds what is there.
    assert CONTENT in disk.path.with_name("disk.sealed.plain").read_bytes()


async def test_an_image_with_an_altered_header_is_refused(alpha: LiveNode, tenant: Tenant, disk: SealedFile) -> None:
    signed, _ = tenant.ticket([disk])
    content = bytearray(disk.path.read_bytes())
    content[200] ^= 1
    disk.path.write_bytes(bytes(content))

    info = await alpha.launch(ticket_file(signed), disk.path)

    assert (info.state, info.reason) == ("failed", "malformed")
