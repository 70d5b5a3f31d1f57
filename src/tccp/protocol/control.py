"""What is said on a daemon's Unix control socket: one request, then its answers.

A request is answered by one message, `Failure` or the answer that its class names; where that is a stream, `Done`
follows its last message. What is about VMs and tenants is in `tccp.protocol.vm_control`, about policies in a shadow in
`tccp.protocol.shadow_control`; who may ask what, in `tccp.protocol.control_roles`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tccp.protocol import fields as f
from tccp.protocol.encoding import Message
from tccp.protocol.shadow_control import ShadowInfo

# An exported perimeter record or a policy is larger than any message on the network.
CONTROL_FRAME_BYTES_MAX = 64 << 20
CONTROL_ITEMS_MAX = 131_072

AttributeName = Annotated[str, Meta(max_length=63, pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z")]
Attributes = Annotated[dict[AttributeName, Annotated[str, Meta(max_length=256)]], Meta(max_length=64)]


# What others should make of a revocation: nothing; look; treat all that the node had as known to an attacker.
Severity = Literal["routine", "serious", "compromised"]


# ---- requests to a coordinator


class GetStatus(Message, frozen=True, tag="get_status"):
    """Answered by `CoordinatorStatus`, or `NodeStatus` by a node's daemon."""


class ListNodes(Message, frozen=True, tag="list_nodes"):
    """Answered by `Nodes`."""


class ShowNode(Message, frozen=True, tag="show_node"):
    """Answered by `NodeInfo`."""

    name: f.Name


class EnrolNode(Message, frozen=True, tag="enrol_node"):
    """Admit a TPM to the perimeter record under a name, for ever. Answered by `NodeInfo`.

    One of *ek_certificate* (DER or PEM, verified against the EK authorities) and *ek_public* (TPMT_PUBLIC or SPKI
    DER, trusted because the operator says so) is given, the other is empty.
    """

    name: f.Name
    ek_certificate: Annotated[bytes, Meta(max_length=65_536)]
    ek_public: Annotated[bytes, Meta(max_length=1024)]
    policy: f.Name
    attributes: Attributes


class ExportNodes(Message, frozen=True, tag="export_nodes"):
    """Answered by `PerimeterRecord`."""


class ImportNodes(Message, frozen=True, tag="import_nodes"):
    """Enrol all nodes of an exported record that are not enrolled yet, or none. Answered by `Done`."""

    record: "PerimeterRecord"


class SetNodePolicy(Message, frozen=True, tag="set_node_policy"):
    """Judge a node by another policy from its next evidence on. Answered by `NodeInfo`."""

    name: f.Name
    policy: f.Name


class SetNodeAttributes(Message, frozen=True, tag="set_node_attributes"):
    """Assert something of a node, and something else no more. Counts from its next key on. Answered by `NodeInfo`."""

    name: f.Name
    said: Attributes
    taken_back: Annotated[tuple[AttributeName, ...], Meta(max_length=64)]


class RevokeNode(Message, frozen=True, tag="revoke_node"):
    """Put a node out of the perimeter now and for ever. Answered by `NodeInfo`."""

    name: f.Name
    reason: Annotated[str, Meta(max_length=256)]
    severity: Severity = "serious"


class AddPolicy(Message, frozen=True, tag="add_policy"):
    """Put a policy (TOML) in force; its version must be newer. Answered by `PolicyInfo`."""

    body: f.PolicyText


class TryPolicy(Message, frozen=True, tag="try_policy"):
    """Judge all connected nodes of the policy of that name by this one, deciding nothing. Answered by `PolicyTrial`."""

    body: f.PolicyText


class ListPolicies(Message, frozen=True, tag="list_policies"):
    """Answered by `Policies`."""


class ShowPolicy(Message, frozen=True, tag="show_policy"):
    """Answered by `PolicyInfo` with its body; version 0 asks for the one in force."""

    name: f.Name
    version: f.Count


class GetTrust(Message, frozen=True, tag="get_trust"):
    """Answered by `TrustFile`: what a node must know of this coordinator."""


class WatchEvents(Message, frozen=True, tag="watch_events"):
    """Answered by every `Event` after *since*, then by new ones as they are committed, until the peer leaves."""

    since: f.Count
    follow: bool


# ---- answers


class Failure(Message, frozen=True, tag="failure"):
    """The request was not carried out. *kind*: "usage", "refused", "host", "config" or "permission"."""

    kind: str
    reason: f.Reason
    detail: f.Text
    hint: f.Text


class Done(Message, frozen=True, tag="done"):
    """Carried out, and how many things it concerned."""

    count: f.Count


class WitnessSeen(Message, frozen=True):
    """What is known of a witness of the configuration."""

    name: str
    size: f.Count  # of the newest checkpoint that it cosigned; 0: none since the start
    at_s: f.Count  # when, in seconds since 1970


class CoordinatorStatus(Message, frozen=True, tag="coordinator_status"):
    """What `tccp coordinator status` shows."""

    coordinator_id: f.Digest32
    software: str
    started_ms: f.UnixMilliseconds
    listening: str  # host:port of the nodes' listener
    ek_authorities: f.Count
    nodes_enrolled: f.Count
    nodes_revoked: f.Count
    nodes_connected: f.Count
    leases_open: f.Count
    policies: f.Count
    log_size: f.Count
    registrations: f.Count
    renewals: f.Count
    refusals: f.Count
    lease_s: int
    tpm: str
    tenants_listening: str  # host:port of the tenants' listener
    witnesses: tuple[WitnessSeen, ...]
    key_releases: f.Count
    key_refusals: f.Count
    refusal_reasons: dict[str, f.Count]  # of nodes
    shadows: tuple[ShadowInfo, ...] = ()


class NodeInfo(Message, frozen=True, tag="node_info"):
    """One node of the perimeter record and its present lease, if any."""

    name: str
    state: str  # "admitted", "enrolled" (holds no lease), "refused" (and was refused since the start), "revoked"
    connected: bool
    ek_id: f.Digest32
    policy: str
    policy_version: f.Count  # that admitted it; 0 when no lease is open
    enrolled_ms: f.UnixMilliseconds
    attributes: Attributes  # asserted by whoever enrolled it
    lease_id: bytes  # empty when there is no open lease
    admitted_ms: f.Count
    renewed_ms: f.Count
    expires_ms: f.Count
    boot_id: bytes
    reset_count: f.Count
    restart_count: f.Count
    address: str
    last_refusal: str  # reason, and what was found; empty when there was none since the start
    last_refusal_ms: f.Count
    revoke_reason: str
    warnings: tuple[str, ...] = ()  # what its policy would rather not see; while it is connected
    attested: Attributes = msgspec.field(default_factory=dict)  # what follows from its evidence; while it is connected


class Nodes(Message, frozen=True, tag="nodes"):
    """In order of name."""

    nodes: tuple[NodeInfo, ...]


class EnrolledNode(Message, frozen=True):
    """One line of a perimeter record: what another coordinator needs to know this node again."""

    name: f.Name
    ek_id: f.Digest32
    ek_public: Annotated[bytes, Meta(max_length=1024)]  # SPKI DER
    policy: f.Name
    attributes: Attributes


class PerimeterRecord(Message, frozen=True, tag="perimeter_record"):
    """All enrolled nodes that are not revoked."""

    nodes: Annotated[tuple[EnrolledNode, ...], Meta(max_length=CONTROL_ITEMS_MAX)]


class PolicyInfo(Message, frozen=True, tag="policy_info"):
    """One version of a policy."""

    name: str
    version: f.Count
    sha256: f.Digest32
    added_ms: f.UnixMilliseconds
    in_force: bool
    nodes: f.Count  # judged by it
    body: bytes  # TOML; empty in a listing


class TriedNode(Message, frozen=True):
    """What a policy that was tried says of a node."""

    node: str
    verdict: str  # "accepted", "refused", "no_answer" (in time), "not_connected" (so not asked)
    reason: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()


class PolicyTrial(Message, frozen=True, tag="policy_trial"):
    """What a policy that was tried says of all nodes that the policy of its name judges, in order of their names."""

    name: str
    version: f.Count
    sha256: f.Digest32
    nodes: tuple[TriedNode, ...]


class Policies(Message, frozen=True, tag="policies"):
    """All versions of all policies, in order of name and version."""

    policies: tuple[PolicyInfo, ...]


class TrustFile(Message, frozen=True, tag="trust_file"):
    """TOML, for the nodes' ``coordinator.trust_file``."""

    body: bytes


class Event(Message, frozen=True, tag="event"):
    """One entry of the coordinator's log."""

    seq: f.Count
    at_ms: f.UnixMilliseconds
    kind: str
    node: str  # empty when it concerns none
    fields: dict[str, str | int]  # bytes in hexadecimal: a union of str and bytes cannot be decoded


class NodeStatus(Message, frozen=True, tag="node_status"):
    """What `tccp node status` shows."""

    name: str
    software: str
    started_ms: f.UnixMilliseconds
    state: str  # "connecting", "registering", "admitted", "lapsed" (the lease ended by time), "waiting"
    coordinator: str
    coordinator_id: f.Digest32
    boot_id: f.Id16
    ek_id: f.Digest32
    tpm: str
    lease_id: bytes
    lease_left_s: f.Count
    renewals: f.Count
    last_error: str
    last_error_hint: str
    retry_in_s: f.Count
