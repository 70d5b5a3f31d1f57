"""What a quote is bound to: the qualifyingData of each kind of quote, 32 bytes.

A quote answers one nonce, in one exchange, for one coordinator, over one TLS connection (the keys of both of its
ends), about one set of boot-time keys. Whoever relays it over another connection, or in another exchange, presents
a quote over other bytes. Every part has a fixed length, so that no two inputs hash alike.
"""

import hashlib
from dataclasses import dataclass

REGISTRATION = b"tccp/v1/quote/registration\0"
RENEWAL = b"tccp/v1/quote/renewal\0"
COORDINATOR_LEAF = b"tccp/v1/quote/coordinator-leaf\0"
TENANT_LEAF = b"tccp/v1/quote/tenant-leaf\0"
COORDINATOR_START = b"tccp/v1/quote/coordinator-start\0"
COORDINATOR = b"tccp/v1/quote/coordinator\0"


@dataclass(frozen=True, slots=True)
class Channel:
    """The two ends of one TLS connection and the coordinator that one of them must be; each 32 bytes.

    Args:
        coordinator_id: `tccp.protocol.statements.coordinator_id`.
        coordinator_spki: SHA-256 of the coordinator's TLS key as this side saw it on the connection.
        node_spki: SHA-256 of the node's TLS key as this side saw it on the connection.
    """

    coordinator_id: bytes
    coordinator_spki: bytes
    node_spki: bytes

    def __post_init__(self) -> None:
        """Fixed lengths are what keeps the hashed parts apart."""
        assert all(len(part) == 32 for part in (self.coordinator_id, self.coordinator_spki, self.node_spki))

    @property
    def packed(self) -> bytes:
        """The three, one after another."""
        return self.coordinator_id + self.coordinator_spki + self.node_spki


def registration(nonce: bytes, channel: Channel, identity: bytes) -> bytes:
    """For the node's first quote; *identity* is its identity statement as bytes."""
    assert len(nonce) == 32
    return hashlib.sha256(REGISTRATION + nonce + channel.packed + hashlib.sha256(identity).digest()).digest()


def renewal(nonce: bytes, channel: Channel, lease_id: bytes, identity: bytes) -> bytes:
    """For each later quote under the same lease."""
    assert len(nonce) == 32
    assert len(lease_id) == 16
    packed = nonce + channel.packed + lease_id + hashlib.sha256(identity).digest()
    return hashlib.sha256(RENEWAL + packed).digest()


def coordinator_leaf(node_nonce: bytes, channel: Channel) -> bytes:
    """What one waiting node contributes to the coordinator's next quote."""
    assert len(node_nonce) == 32
    return hashlib.sha256(COORDINATOR_LEAF + node_nonce + channel.packed).digest()


def tenant_leaf(tenant_nonce: bytes, coordinator_id: bytes, coordinator_spki: bytes) -> bytes:
    """What one waiting tenant contributes; she shows no key of her own, so her end of the channel is her nonce.

    Args:
        coordinator_spki: SHA-256 of the coordinator's TLS key as this side saw it on the connection.
    """
    assert len(tenant_nonce) == len(coordinator_id) == len(coordinator_spki) == 32
    return hashlib.sha256(TENANT_LEAF + tenant_nonce + coordinator_id + coordinator_spki).digest()


def coordinator_start(coordinator_id: bytes, log_size: int, log_root: bytes) -> bytes:
    """The leaf of the quote that a coordinator enters in its log when it starts: after a log of this size and root."""
    assert len(coordinator_id) == len(log_root) == 32
    return hashlib.sha256(COORDINATOR_START + coordinator_id + log_size.to_bytes(8, "big") + log_root).digest()


def coordinator(root: bytes, statement: bytes) -> bytes:
    """For the coordinator's quote over the Merkle *root* of the leaves of all who wait, nodes and tenants."""
    assert len(root) == 32
    return hashlib.sha256(COORDINATOR + root + hashlib.sha256(statement).digest()).digest()
