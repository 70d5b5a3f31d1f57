"""Every message between tenant and coordinator: the schema, and nothing else.

A tenant says nothing of her own before she has verified all of the introduction: up to there she sends random numbers.
`tccp.protocol.tenant_session` says when each is legal; docs/PROTOCOL.md draws it.
"""

from typing import Annotated

from msgspec import Meta

from tccp.protocol import fields as f
from tccp.protocol.encoding import Message
from tccp.protocol.messages import CoordinatorEvidence

TENANT_PROTOCOL_VERSION = 1
WITNESSED_MAX = 8


class TenantHello(Message, frozen=True, tag="tenant_hello"):
    """1. Tenant -> coordinator. Prove to me who you are."""

    version: int
    tenant_nonce: f.Nonce32


class Introduction(Message, frozen=True, tag="introduction"):
    """2. Coordinator -> tenant. A quote over your nonce, the TPM behind it, and the head of my log."""

    coordinator: CoordinatorEvidence
    ek_certificate: f.CertificateOrNone  # DER; empty when the TPM's maker left none
    ek_chain: f.CertificateChain
    ek_public: f.TpmPublic  # TPMT_PUBLIC
    ak_public: f.TpmPublic  # TPMT_PUBLIC
    event_log: f.FirmwareLog
    ca_certificate: f.Certificate  # DER; issuer of leases and of the TLS certificate
    log_url: f.Url  # where the log is served; empty when nowhere
    checkpoint: f.LogNote  # the newest
    witnessed: Annotated[tuple[f.LogNote, ...], Meta(max_length=WITNESSED_MAX)]  # the newest of each witness


class Activate(Message, frozen=True, tag="activate"):
    """3. Tenant -> coordinator, when she does not know your AK. Activate this credential."""

    id_object: f.TpmBlob  # content of TPM2B_ID_OBJECT
    encrypted_secret: f.TpmBlob  # content of TPM2B_ENCRYPTED_SECRET


class Activated(Message, frozen=True, tag="activated"):
    """4. Coordinator -> tenant. What only the TPM of the EK could read, with that AK loaded."""

    credential: f.Digest32


class GetTile(Message, frozen=True, tag="get_tile"):
    """Tenant -> coordinator, once all of the introduction holds. Give me these hashes of the log's tree."""

    level: f.TileLevel
    index: f.TileIndex
    width: f.TileWidth


class LogTile(Message, frozen=True, tag="log_tile"):
    """Coordinator -> tenant. It need not be believed: a wrong one leads to a proof that does not hold."""

    content: f.TileContent


class Probe(Message, frozen=True, tag="probe"):
    """Tenant -> coordinator, once all of the introduction holds. Have this node quote now; I have signed that."""

    node: f.Name
    nonce: f.Nonce32  # the log's entry repeats it
    tenant_key: f.Ed25519Key
    signature: f.Ed25519Signature


class Probed(Message, frozen=True, tag="probed"):
    """Coordinator -> tenant. It quoted after you asked, and that held; my log says so."""

    receipt: f.LogReceipt


class GetHead(Message, frozen=True, tag="get_head"):
    """Anybody -> coordinator, instead of a hello. What is the head of your log? It proves itself by its signature."""


class LogHead(Message, frozen=True, tag="log_head"):
    """Coordinator -> anybody. The newest checkpoint, with the cosignatures that have come in so far."""

    checkpoint: f.LogNote


class AddCosignature(Message, frozen=True, tag="add_cosignature"):
    """Anybody -> coordinator. One of your checkpoints with a witness's cosignature, which proves itself."""

    note: f.LogNote


class TenantRefused(Message, frozen=True, tag="tenant_refused"):
    """Coordinator -> tenant, instead of any answer."""

    reason: f.Reason


AnyTenantMessage = (
    TenantHello
    | Introduction
    | Activate
    | Activated
    | GetTile
    | LogTile
    | Probe
    | Probed
    | GetHead
    | LogHead
    | AddCosignature
    | TenantRefused
)
