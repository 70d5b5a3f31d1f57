"""Things said about keys that are covered by a quote or a signature.

Made once, kept and passed on as bytes, never re-encoded: what was signed is what is stored. Each starts with its
domain separator, so that no statement can be taken for another.
"""

import hashlib

from tccp.errors import ProtocolError
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode

NODE_DOMAIN = "tccp/v1/node-identity"
COORDINATOR_DOMAIN = "tccp/v1/coordinator-identity"


class IdentityStatement(Message, frozen=True):
    """The keys of one boot of a node; their private halves live in its memory only."""

    domain: str
    node: f.Name
    boot_id: f.Id16
    tls_spki: f.SmallSpki
    hpke_key: f.HpkeKey  # X-Wing public key, to which VM keys are wrapped
    signing_key: f.Ed25519Key
    software: f.Version


class CoordinatorStatement(Message, frozen=True):
    """The keys of one start of a coordinator, signed by its identity key and covered by its TPM's quote."""

    domain: str
    identity_key: f.Ed25519Key
    ca_spki: f.SmallSpki  # issuer of leases
    tls_spki: f.SmallSpki
    log_key: f.Ed25519Key  # signs the checkpoints of its log
    release_key: f.HpkeKey  # X-Wing public key, to which tenants wrap VM keys
    software: f.Version


def encode_statement(statement: IdentityStatement | CoordinatorStatement) -> bytes:
    """The bytes that are signed and passed on."""
    return encode(statement)


def decode_identity(statement: bytes) -> IdentityStatement:
    """The node's keys in *statement*; believe them only after its quote was verified.

    Raises:
        ProtocolError: Not such a statement.
    """
    identity: IdentityStatement = decode(statement, IdentityStatement)
    if identity.domain != NODE_DOMAIN:
        raise ProtocolError("not_a_message", f"a statement of the domain {identity.domain!r}")
    return identity


def decode_coordinator(statement: bytes) -> CoordinatorStatement:
    """The coordinator's keys in *statement*; believe them only after signature and quote were verified.

    Raises:
        ProtocolError: Not such a statement.
    """
    coordinator: CoordinatorStatement = decode(statement, CoordinatorStatement)
    if coordinator.domain != COORDINATOR_DOMAIN:
        raise ProtocolError("not_a_message", f"a statement of the domain {coordinator.domain!r}")
    return coordinator


def coordinator_id(identity_key: bytes) -> bytes:
    """The name of a coordinator: SHA-256 of its Ed25519 identity key, 32 bytes."""
    return hashlib.sha256(b"tccp/v1/coordinator-id\0" + identity_key).digest()


def log_origin(coordinator_id: bytes) -> str:
    """The name of a coordinator's log, which is also that of the key of its checkpoints (C2SP tlog-checkpoint)."""
    return f"{coordinator_id.hex()[:32]}.tccp.internal/log"
