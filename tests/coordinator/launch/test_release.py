"""Keys go to the node that a ticket entitles to them; operators see who owns what."""

import hashlib

import pytest

from tccp.coordinator import launch
from tccp.errors import LaunchError
from tccp.model import NodeName
from tccp.protocol import vm_control as v
from tccp.protocol.messages import KeyRelease, RenewalChallenge
from tccp.protocol.ticket import VerifiedTicket
from tccp.store import VmState
from tccp.transparency.receipt import decode_receipt, verify_receipt
from tests.coordinator.launch.support import kinds
from tests.support.launching import AskingNode, SealedFile, Tenant, trust_of
from tests.support.live_coordinator import LiveCoordinator


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


async def test_a_ticket_that_ran_out_while_an_answer_was_lost_is_answered_all_the_same(
    alpha: AskingNode, tenant: Tenant, disk: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node owns the VM already: told no, it would forget it, and nobody else could have it."""

    def say_no(_: VerifiedTicket, now_ms: int) -> None:
        raise LaunchError("ticket_expired", str(now_ms))

    request = alpha.request(tenant.ticket([disk])[0])
    first = await alpha.ask(request)
    assert isinstance(first, KeyRelease)
    monkeypatch.setattr(launch, "check_validity", say_no)

    again = await alpha.ask(request)

    assert isinstance(again, KeyRelease)
    assert (again.vm_id, again.epoch) == (first.vm_id, first.epoch)
    assert await alpha.reason(tenant.ticket([disk])[0]) == "ticket_expired"


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
