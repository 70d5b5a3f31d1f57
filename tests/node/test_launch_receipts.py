"""What a tenant learns of a launch, and what everybody else does not."""

import datetime as dt
from dataclasses import replace

import msgspec
import pytest

from tccp.errors import EnrolmentError, LaunchError, LogError
from tccp.merkle import leaf_hash
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.encoding import encode
from tccp.protocol.launch_proof import read_launch_receipt
from tccp.tenant.launch import verify_launch
from tccp.tenant.vm_file import VmFile, new_vm
from tccp.transparency.checkpoint import Checkpoint
from tccp.transparency.entry import make_entry
from tccp.transparency.note import NoteKey, NoteSigner, sign_note
from tccp.transparency.packed import Value, pack_map
from tccp.transparency.receipt import Receipt, encode_receipt
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


async def test_what_the_log_says_of_a_launch_must_be_what_the_ticket_demands(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, disk: SealedFile
) -> None:
    """Even by a coordinator that its operators have made to lie: what it tells the log is what it is held to."""
    await coordinator.ask(c.SetNodeAttributes(name="alpha", said={"site": "delft"}, taken_back=()), c.NodeInfo)
    signed, vm = tenant.ticket([disk], attributes={"site": "delft"})
    await alpha.launch(ticket_file(signed), disk.path)
    content, trust = receipt_of(alpha, vm), trust_of(coordinator)
    release = verify_launch(content, vm=vm, trust=trust).release

    def found(kind: str = release.kind, **changed: Value) -> bytes:
        told = release.details
        assert told is not None
        details, salt = pack_map({**told, **changed}), bytes(32)
        entry = make_entry(kind, release.at_ms, {}, details, salt).encode()
        signer = NoteSigner(trust.origin, coordinator.services.identity.keys.log_signing_key)
        head = sign_note(Checkpoint(trust.origin, 1, leaf_hash(entry)).text(), signer).encode()
        forged = encode_receipt(Receipt(entry, 0, details, salt, (), head))
        return encode(msgspec.structs.replace(read_launch_receipt(content), log_receipt=forged))

    def refused(what: str, receipt: bytes) -> None:
        with pytest.raises(LaunchError, match=f"release_mismatch: {what}"):
            verify_launch(receipt, vm=vm, trust=trust)

    verify_launch(found(), vm=vm, trust=trust)  # the control: it signs whatever it likes
    refused("the log's receipt is of 'probe'", found(kind="probe"))
    refused("policy", found(policy="lax"))
    refused("policy", found(policy_version=0))
    refused("attributes", found(asserted='{"site":"berlin"}'))
    refused("attributes", found(asserted="{}"))
    for name, value in (("node", "beta"), ("epoch", 7), ("tenant_key", bytes(32)), ("identity_sha256", bytes(32))):
        refused(name, found(**{name: value}))


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
