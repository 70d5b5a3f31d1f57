"""What the log of a real coordinator tells of each kind of event: to everybody, to whom it concerns, and to nobody."""

import hashlib
from functools import partial

import pytest

from tccp import __version__
from tccp.attestation.ek_id import ek_id_of, ek_spki_of
from tccp.attestation.quote import AkKey
from tccp.coordinator.log_entries import entry_of, hash_field
from tccp.coordinator.services import event_body
from tccp.errors import QuoteError
from tccp.model import NodeName, PcrBank, spki_sha256
from tccp.node.coordinator_check import check_admission
from tccp.node.registration import NodeTpm
from tccp.protocol import binding
from tccp.protocol import control as c
from tccp.protocol.encoding import decode
from tccp.protocol.messages import CoordinatorEvidence
from tccp.protocol.statements import log_origin
from tccp.store import EventKind, EventRecord
from tccp.transparency.entry import decode_entry, open_commitment
from tccp.transparency.note import NoteKey
from tccp.transparency.receipt import Receipt, VerifiedReceipt, decode_receipt, verify_receipt
from tccp.transport.coordinator_evidence import verify_coordinator
from tests.support.live_coordinator import HonestNode, LiveCoordinator

ONE = b"\x01" * 32
NODE_KINDS = {"start", "policy", "enrol", "assign", "admit", "refuse", "end", "revoke", "reinstate", "remove"}


async def live_through_everything(coordinator: LiveCoordinator, alpha: HonestNode, other: NodeTpm) -> None:
    """Each kind of event happens, to a node whose TPM has a certificate, and to one that is known by its key."""
    await coordinator.enrol("beta", other, by_key=True)
    await alpha.register()
    await HonestNode(coordinator, "alpha", alpha.host).register()
    await coordinator.ask(c.SetNodePolicy(name="beta", policy="tvmm"), c.NodeInfo)
    await coordinator.add_policy({0: ONE}, version=2)
    await HonestNode(coordinator, "beta", other).is_refused()
    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)
    await coordinator.store.reinstate_node(NodeName("alpha"), 1)
    await coordinator.services.log.included(await coordinator.store.remove_node(NodeName("beta"), 1))


async def receipt_of(coordinator: LiveCoordinator, event: EventRecord) -> tuple[Receipt, VerifiedReceipt]:
    data = await coordinator.services.log.receipt(event.seq)
    origin = log_origin(coordinator.trust.coordinator_id)
    key = NoteKey(origin, coordinator.services.identity.keys.log_key)
    return decode_receipt(data), verify_receipt(data, origin=origin, log_key=key)


def secrets_of(coordinator: LiveCoordinator, *hosts: NodeTpm) -> list[bytes]:
    """What no entry and no details may hold, in any of the ways in which it could be written."""
    keys = coordinator.services.identity.keys
    plain = [bytes(keys.signing_key), bytes(keys.log_signing_key), keys.log_salt_key]
    for host in hosts:
        spki = ek_spki_of(host.ek.public)
        plain += [ek_id_of(host.ek.public), spki, spki[-64:-32], host.ek.public[-64:-32]]
    return [form for secret in plain for form in (secret, secret.hex().encode(), secret.hex().upper().encode())]


async def test_no_ek_and_no_secret_is_in_an_entry_or_its_details(
    coordinator: LiveCoordinator, alpha: HonestNode, other_host: NodeTpm
) -> None:
    await live_through_everything(coordinator, alpha, other_host)
    secrets = secrets_of(coordinator, alpha.host, other_host)
    events = await coordinator.log()

    for event in events:
        receipt, told = await receipt_of(coordinator, event)
        assert (told.kind, told.at_ms, told.index) == (event.kind, event.at_ms, event.seq - 1)
        for secret in secrets:
            assert secret not in receipt.entry + receipt.details

    assert {event.kind for event in events} >= NODE_KINDS
    found = [event.kind for event in events if any(secret in event.body for secret in secrets)]
    assert found == ["enrol", "enrol"]  # the bodies hold it: what is looked for would be found


async def test_no_two_entries_about_a_node_have_anything_in_common(
    coordinator: LiveCoordinator, alpha: HonestNode, other_host: NodeTpm
) -> None:
    await live_through_everything(coordinator, alpha, other_host)
    entries = [
        ((await receipt_of(coordinator, event))[0].entry, event)
        for event in await coordinator.log()
        if event.node is not None
    ]

    assert len(entries) > 6
    for entry, event in entries:
        assert str(event.node).encode() not in entry
    commitments = {entry[-32:] for entry, _ in entries}
    assert len(commitments) == len(entries)


async def test_an_enrolment_can_be_shown_to_be_of_an_ek_by_whoever_knows_it(
    coordinator: LiveCoordinator, alpha: HonestNode, other_host: NodeTpm
) -> None:
    (event,) = [event for event in await coordinator.log() if event.kind == "enrol"]
    receipt, told = await receipt_of(coordinator, event)

    assert told.details is not None
    assert told.details["node"] == "alpha"
    assert told.details["ek_id_hash"] == hash_field("ek_id", ek_id_of(alpha.host.ek.public), receipt.salt)
    assert told.details["ek_id_hash"] != hash_field("ek_id", ek_id_of(other_host.ek.public), receipt.salt)


async def test_what_was_found_at_a_refusal_stays_with_the_operator(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await coordinator.add_policy({0: ONE}, version=2)
    await alpha.is_refused()
    (event,) = [event for event in await coordinator.log() if event.kind == "refuse"]
    _, told = await receipt_of(coordinator, event)

    assert b"PCR 0 is" in event.body
    assert told.details is not None
    assert set(told.details) == {"node", "reason", "detail_hash"}
    assert told.details["reason"] == "pcr_not_in_policy"


async def test_everybody_reads_which_policy_came_in_force(coordinator: LiveCoordinator) -> None:
    body = (await coordinator.ask(c.ShowPolicy(name="tvmm", version=0), c.PolicyInfo)).body
    (event,) = [event for event in await coordinator.log() if event.kind == "policy"]
    _, told = await receipt_of(coordinator, event)

    assert told.public == {"policy": "tvmm", "version": 1, "sha256": hashlib.sha256(body).digest()}


async def test_a_start_is_told_with_evidence_that_came_after_the_log_before_it(coordinator: LiveCoordinator) -> None:
    (event,) = [event for event in await coordinator.log() if event.kind == "start"]
    _, told = await receipt_of(coordinator, event)

    assert told.details is not None
    identity = coordinator.services.identity
    assert told.public == {
        "coordinator_id": coordinator.trust.coordinator_id,
        "software": __version__,
        "statement_sha256": hashlib.sha256(identity.statement).digest(),
        "evidence_sha256": hashlib.sha256(told.details["evidence"]).digest(),  # type: ignore[arg-type]
        "log_key": identity.keys.log_key,
    }
    evidence: CoordinatorEvidence = decode(told.details["evidence"], CoordinatorEvidence)  # type: ignore[arg-type]
    assert (told.details["log_size"], told.details["log_root"]) == (0, hashlib.sha256().digest())
    leaf = binding.coordinator_start(coordinator.trust.coordinator_id, 0, hashlib.sha256().digest())
    own = partial(
        verify_coordinator,
        evidence,
        identity_key=coordinator.trust.identity_key,
        ak=AkKey.from_spki(coordinator.trust.ak_spki),
        bank=PcrBank.SHA256,
        coordinator_spki=spki_sha256(identity.tls_spki),
    )
    assert own(leaf=leaf).statement.log_key == identity.keys.log_key
    with pytest.raises(QuoteError):
        own(leaf=binding.coordinator_start(coordinator.trust.coordinator_id, 1, bytes(32)))


async def test_a_receipt_of_something_else_is_no_admission(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()
    data = {event.kind: await coordinator.services.log.receipt(event.seq) for event in await coordinator.log()}

    check_admission(data["admit"], alpha.statement, node="alpha", lease_id=alpha.lease_id)
    for receipt, name, lease_id in [
        (data["enrol"], "alpha", alpha.lease_id),
        (data["admit"], "beta", alpha.lease_id),
        (data["admit"], "alpha", bytes(16)),
    ]:
        with pytest.raises(Exception, match="another_entry"):
            check_admission(receipt, alpha.statement, node=name, lease_id=lease_id)


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_has_an_entry_that_tells_everybody_no_more_than_it_should(kind: EventKind) -> None:
    body = event_body(policy="tvmm", version=1, sha256=ONE, reason="sold", tenant_key=ONE, vm_id=bytes(16))
    made = entry_of(EventRecord(7, 1, kind, NodeName("alpha"), body), bytes(32))
    entry = decode_entry(made.entry)

    public = {"policy": "tvmm", "version": 1, "sha256": ONE} if kind in {EventKind.POLICY, EventKind.SHADOW} else {}
    assert entry.public_values() == public
    assert open_commitment(entry, made.details, made.salt)["node"] == "alpha"


def test_an_event_whose_body_is_none_of_ours_has_its_entry_all_the_same() -> None:
    for body in (b"\xc1", b"\x01", b"\x81\x01\x02", b"\x81\xa4Name\x01", b"\x81\xa1a\x90", b"\x81\xa1a\xc3"):
        made = entry_of(EventRecord(1, 1, "refuse", None, body), bytes(32))

        assert hashlib.sha256(body).digest() in made.details
