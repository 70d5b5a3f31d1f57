"""The perimeter record as operators see it: enrol, import, export, revoke, show."""

import base64
import binascii
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from tccp.attestation.attributes import NodeAttributes
from tccp.attestation.ek_id import ek_spki_of
from tccp.attestation.enrolment import verify_ek_certificate
from tccp.coordinator.attributes import attested
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services, event_body
from tccp.errors import ConfigError
from tccp.model import NodeName, spki_sha256
from tccp.protocol.control import (
    EnrolledNode,
    EnrolNode,
    ImportNodes,
    NodeInfo,
    PerimeterRecord,
    RevokeNode,
    SetNodeAttributes,
    SetNodePolicy,
)
from tccp.store import ConflictError, LeaseRecord, NodeRecord, attribute_fields

PEM = re.compile(rb"-----BEGIN (?:CERTIFICATE|PUBLIC KEY)-----([A-Za-z0-9+/=\s]+)-----END")


def node_name(text: str) -> NodeName:
    """*text* as a node name.

    Raises:
        ConfigError: ``bad_name``.
    """
    try:
        return NodeName(text)
    except ValueError as problem:
        raise ConfigError("bad_name", str(problem)) from None


async def enrol(services: Services, request: EnrolNode) -> NodeInfo:
    """Bind a TPM's EK to a name, for ever.

    Raises:
        EnrolmentError: The EK certificate leads to no authority, or the EK's public area is malformed.
        ConfigError: Both or neither of certificate and key are given, or the name is none.
        ConflictError: The name or the EK is bound to another.
    """
    name = node_name(request.name)
    if bool(request.ek_certificate) == bool(request.ek_public):
        raise ConfigError("bad_request", "give either an EK certificate or an EK public key")
    if request.ek_certificate:
        certificate = _der(request.ek_certificate)
        verified = verify_ek_certificate(certificate, (), authorities=services.authorities, now=services.clock.now())
        ek_id, ek_public = spki_sha256(verified.spki), None
    else:
        ek_public = _canonical(ek_spki_of(_der(request.ek_public)))
        ek_id = spki_sha256(ek_public)
    record = _record(
        name=name,
        ek_id=ek_id,
        policy=request.policy,
        enrolled_ms=services.clock.now_ms(),
        ek_public=ek_public,
        attributes=request.attributes,
    )
    await services.log.included(await services.store.enrol_node(record, _enrol_body(record)))
    return await show(services, name)


async def export_record(services: Services) -> PerimeterRecord:
    """All nodes that are not revoked."""
    nodes = [record for record in await all_nodes(services) if record.revoked_ms is None]
    return PerimeterRecord(
        nodes=tuple(
            EnrolledNode(
                name=str(record.name),
                ek_id=record.ek_id,
                ek_public=record.ek_public or b"",
                policy=record.policy,
                attributes=dict(record.attributes),
            )
            for record in nodes
        )
    )


async def import_record(services: Services, request: ImportNodes) -> int:
    """Enrol what is new in the record, all or none; how many are new.

    Raises:
        ConflictError: A name or an EK in it is bound to another here.
        ConfigError: A name in it is none.
    """
    now_ms = services.clock.now_ms()
    records = [
        _record(
            name=node_name(node.name),
            ek_id=node.ek_id,
            policy=node.policy,
            enrolled_ms=now_ms,
            ek_public=node.ek_public or None,
            attributes=node.attributes,
        )
        for node in request.record.nodes
    ]
    added = await services.store.import_nodes([(record, _enrol_body(record)) for record in records])
    await services.log.included(await services.store.last_seq())
    return len(added)


async def set_policy(services: Services, renewals: Renewals, request: SetNodePolicy) -> NodeInfo:
    """Judge a node by another policy, beginning with new evidence now.

    Raises:
        PolicyError: There is no such policy.
        ConflictError: There is no such node.
    """
    name = node_name(request.name)
    services.policies.get(request.policy)
    body = event_body(policy=request.policy)
    seq = await services.store.set_node_policy(name, request.policy, services.clock.now_ms(), body)
    record = await services.store.node_by_name(name)
    if record is not None and (session := services.sessions.get(name)) is not None:
        session.policy = record.policy  # another may have been set since
        renewals.ask_now([session])
    await services.log.included(seq)
    return await show(services, name)


async def set_attributes(services: Services, request: SetNodeAttributes) -> NodeInfo:
    """Assert something else of a node. What runs there goes on; the next key depends on it.

    Raises:
        ConflictError: ``node_unknown``, ``bad_attributes``.
    """
    name = node_name(request.name)
    now_ms = services.clock.now_ms()
    seq = await services.store.set_attributes(name, request.said, request.taken_back, now_ms)
    await services.log.included(seq)
    return await show(services, name)


async def revoke(services: Services, renewals: Renewals, request: RevokeNode) -> NodeInfo:
    """Put a node out: its lease ends in the record first, then its connection.

    Raises:
        ConflictError: There is no such node, or it is revoked already.
    """
    name = node_name(request.name)
    reason = request.reason or "no reason given"
    body = event_body(reason=reason, severity=request.severity)
    seq = await services.store.revoke_node(name, reason, services.clock.now_ms(), body)
    renewals.revoke(name, seq)
    await services.log.included(seq)
    return await show(services, name)


async def show(services: Services, name: NodeName) -> NodeInfo:
    """One node.

    Raises:
        ConflictError: ``node_unknown``.
    """
    record = await services.store.node_by_name(name)
    if record is None:
        raise ConflictError("node_unknown", str(name))
    return _info(services, record, await services.store.open_lease(name))


async def list_all(services: Services) -> tuple[NodeInfo, ...]:
    """All nodes in order of name."""
    leases: dict[NodeName, LeaseRecord] = {}
    after: NodeName | None = None
    while page := await services.store.open_leases(after):
        leases.update((lease.node, lease) for lease in page)
        after = page[-1].node
    return tuple(_info(services, record, leases.get(record.name)) for record in await all_nodes(services))


async def all_nodes(services: Services) -> list[NodeRecord]:
    """All records in order of name."""
    nodes: list[NodeRecord] = []
    while page := await services.store.list_nodes(nodes[-1].name if nodes else None):
        nodes += page
    return nodes


def _info(services: Services, record: NodeRecord, lease: LeaseRecord | None) -> NodeInfo:
    session = services.sessions.get(record.name)
    refusal = services.sessions.refusals.get(record.name)
    said = attested(services, session) if session else None
    held = lease if lease is not None and lease.expires_ms > services.clock.now_ms() else None
    if record.revoked_ms is not None:
        state = "revoked"
    elif held:
        state = "admitted"
    else:
        state = "refused" if refusal else "enrolled"
    return NodeInfo(
        name=str(record.name),
        state=state,
        connected=session is not None,
        ek_id=record.ek_id,
        policy=record.policy,
        policy_version=session.policy_version if session else held.policy_version if held else 0,
        enrolled_ms=record.enrolled_ms,
        attributes=dict(record.attributes),
        lease_id=held.lease_id if held else b"",
        admitted_ms=held.issued_ms if held else 0,
        renewed_ms=held.renewed_ms if held else 0,
        expires_ms=held.expires_ms if held else 0,
        boot_id=held.boot_id if held else b"",
        reset_count=held.reset_count if held else 0,
        restart_count=held.restart_count if held else 0,
        address=session.address if session else "",
        last_refusal=f"{refusal.reason}: {refusal.detail}" if refusal else "",
        last_refusal_ms=refusal.at_ms if refusal else 0,
        revoke_reason=record.revoke_reason or "",
        warnings=session.lease.boot.warnings if session else (),
        attested=said.attributes if said else {},
    )


def _record(
    *, name: NodeName, ek_id: bytes, policy: str, enrolled_ms: int, ek_public: bytes | None, attributes: dict[str, str]
) -> NodeRecord:
    try:
        return NodeRecord(name, ek_id, policy, enrolled_ms, ek_public, attributes=attributes)
    except ValueError as problem:
        raise ConfigError("bad_attributes", f"{name}: {problem}") from None


def _enrol_body(record: NodeRecord) -> bytes:
    pinned = int(record.ek_public is not None)
    asserted = attribute_fields(NodeAttributes(asserted=record.attributes))
    return event_body(ek_id=record.ek_id, policy=record.policy, pinned=pinned, **asserted)


def _der(given: bytes) -> bytes:
    """DER from PEM; what is no PEM is taken as it is."""
    match = PEM.search(given)
    try:
        return base64.b64decode(match[1]) if match else given
    except binascii.Error as problem:
        raise ConfigError("bad_request", f"damaged PEM: {problem}") from None


def _canonical(spki: bytes) -> bytes:
    """The same key as our own reading of a TPM's public area gives it: its hash is how a node is found."""
    try:
        key = serialization.load_der_public_key(spki)
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise ConfigError("bad_request", f"no public key: {problem}") from None
