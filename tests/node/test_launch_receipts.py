"""What a tenant learns of a launch, and what everybody else does not."""

import datetime as dt
from dataclasses import replace

import msgspec
import pytest

from tccp.errors import EnrolmentError, LaunchError, LogError
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.encoding import encode
from tccp.protocol.launch_proof import read_launch_receipt
from tccp.tenant.launch import verify_launch
from tccp.tenant.vm_file import VmFile, new_vm
from tccp.transparency.note import NoteKey
from tccp.transport.certificates import fresh_key, spki_of_key
from tests.node.running import CONTENT
from tests.support.launching import SealedFile, Tenant, ticket_file, trust_of
from tests.support.live_coordinator import LiveCoordinator
from tests.support.live_node import LiveNode


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


async def test_nothing_that_the_cloud_manager_stored_or_relayed_is_secret(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
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
