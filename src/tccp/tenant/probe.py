"""Asking a pinned coordinator for fresh evidence of one node, before anything secret goes there."""

import os
import time
from dataclasses import dataclass

import msgspec
from nacl.signing import SigningKey

from tccp.attestation.attributes import NodeAttributes, attributes_in
from tccp.errors import LaunchError
from tccp.protocol.probe import PROBE
from tccp.tenant.connection import TenantConnection
from tccp.tenant.trust import advance, continue_log, verify_pinned
from tccp.tenant.trust_store import PinnedCoordinator, TrustStore
from tccp.transparency.receipt import VerifiedReceipt, verify_receipt


@dataclass(frozen=True, slots=True)
class VerifiedProbe:
    """What an answer proves. Only `verify_probe` makes one.

    Attributes:
        node: The name under which the coordinator knows it.
        policy: The policy by which its evidence held, and the version.
        evidence_ms: No older than this is the evidence, by the coordinator's clock.
        identity_sha256: Of the identity statement of this boot: a launch on the same boot names the same.
        attributes: What is known of the node, and whether it follows from its evidence.
    """

    node: str
    policy: tuple[str, int]
    evidence_ms: int
    boot_id: bytes
    identity_sha256: bytes
    attributes: NodeAttributes
    receipt: VerifiedReceipt


def probe_node(store: TrustStore, name: str | None, node: str, key: SigningKey) -> tuple[VerifiedProbe, bytes]:
    """Have the pinned coordinator prove itself, and then *node* to it; what it says, and the receipt of its log.

    What was seen of the log is remembered before it is told.

    Raises:
        EvidenceError: The coordinator does not prove itself, its log does not continue what was seen, or the receipt
            does not say what was asked.
        RefusedError: The node does not prove itself (``no_fresh_evidence``, ``node_not_admitted``), or the coordinator
            does not know us (``tenant_unknown``).
        ConfigError, HostError, ProtocolError: As their names say.
    """
    name = store.load(name).name
    with store.locked(name):
        known = store.load(name)
        with TenantConnection.open(known.host, known.port, ca_certificate=known.ca.encode()) as connection:
            verified = verify_pinned(connection, known)
            head = advance(connection, known.head, verified)
            nonce = os.urandom(32)
            receipt = connection.probe(node, nonce=nonce, key=key, coordinator_id=known.coordinator_id)
            probe = verify_probe(receipt, known, node=node, nonce=nonce, tenant_key=bytes(key.verify_key))
            continue_log(connection.read_tile, head.checkpoint, probe.receipt.checkpoint)
        seen = probe.receipt.checkpoint.note.encode().decode("utf-8")
        software = verified.statement.software
        store.save(msgspec.structs.replace(known, software=software, seen=seen, checked_s=int(time.time())))
    return probe, receipt


def verify_probe(
    receipt: bytes, known: PinnedCoordinator, *, node: str, nonce: bytes, tenant_key: bytes
) -> VerifiedProbe:
    """Check that the log of *known* has the answer to this very question.

    Nobody waits for witnesses here: an entry that was just made has no cosignature yet.

    Raises:
        LogError: The receipt does not hold; as `verify_receipt`.
        LaunchError: ``probe_mismatch``: it is of something else.
    """
    verified = verify_receipt(receipt, origin=known.origin, log_key=known.note_key)
    details = verified.details or {}
    expected = {"node": node, "nonce": nonce, "tenant_key": tenant_key}
    if verified.kind != PROBE or any(details.get(name) != value for name, value in expected.items()):
        raise LaunchError("probe_mismatch", f"the log's receipt is of {verified.kind!r}, or of another question")
    match [details.get(name) for name in ("policy", "policy_version", "evidence_ms", "boot_id", "identity_sha256")]:
        case [str(policy), int(version), int(evidence_ms), bytes(boot_id), bytes(identity_sha256)]:
            try:
                said = attributes_in(details)
            except ValueError as problem:
                raise LaunchError("probe_mismatch", str(problem)) from None
            return VerifiedProbe(node, (policy, version), evidence_ms, boot_id, identity_sha256, said, verified)
        case _:
            raise LaunchError("probe_mismatch", "the log's entry does not say what a probe says")
