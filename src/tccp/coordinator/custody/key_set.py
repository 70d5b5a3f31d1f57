"""The coordinator's long-lived private keys as one value: what a sealed file and a set of shares hold."""

import datetime as dt
import secrets
from typing import Annotated

from msgspec import Meta
from nacl.signing import SigningKey

from tccp.core.memory import wipe
from tccp.errors import ConfigError, ProtocolError
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.statements import coordinator_id
from tccp.transport.certificates import Authority

DOMAIN = "tccp/v1/coordinator-keys"
SEED_BYTES = 32

Seed = Annotated[bytes, Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
Pem = Annotated[bytes, Meta(min_length=1, max_length=4096)]


class KeySet(Message, frozen=True):
    """All private keys of a coordinator, and the certificates that belong to them."""

    domain: str
    identity_seed: Seed  # Ed25519; its public half is the coordinator's identity, which nodes and tenants pin
    log_seed: Seed  # Ed25519; signs the checkpoints of the log
    log_salt_key: Seed  # from which the salts of the log's entries are derived
    release_seed: Seed  # X-Wing; to its public half tenants wrap the keys of their VMs
    ca_certificate: Pem
    ca_key: Pem  # P-256; issues lease certificates and the coordinator's own TLS certificate
    door_certificate: Pem
    door_key: Pem  # P-256; given to every node in the trust file (see `tccp.transport.certificates`)

    def __repr__(self) -> str:
        """Show nothing of them."""
        return "KeySet(...)"

    @property
    def identity_key(self) -> bytes:
        """The public identity key, 32 bytes."""
        return bytes(SigningKey(self.identity_seed).verify_key)

    @property
    def coordinator_id(self) -> bytes:
        """The coordinator's id, 32 bytes."""
        return coordinator_id(self.identity_key)


def fresh_key_set(*, now: dt.datetime) -> KeySet:
    """The keys of a new coordinator."""
    ca = Authority.create("tccp coordinator CA", now=now)
    door = Authority.create("tccp door", now=now)
    return KeySet(
        domain=DOMAIN,
        identity_seed=secrets.token_bytes(SEED_BYTES),
        log_seed=secrets.token_bytes(SEED_BYTES),
        log_salt_key=secrets.token_bytes(SEED_BYTES),
        release_seed=secrets.token_bytes(SEED_BYTES),
        ca_certificate=ca.certificate,
        ca_key=ca.key,
        door_certificate=door.certificate,
        door_key=door.key,
    )


def encode_key_set(keys: KeySet) -> bytes:
    """The bytes that are encrypted; wipe them afterwards."""
    return encode(keys)


def take_key_set(plaintext: bytes, identity_key: bytes) -> KeySet:
    """The keys in *plaintext*, which came out of authenticated encryption *and is wiped*.

    Raises:
        ConfigError: ``keys_damaged``: it was encrypted by another version of tccp, or is of another coordinator than
            the one of *identity_key*.
    """
    try:
        keys: KeySet = decode(plaintext, KeySet)
    except ProtocolError:
        keys = None  # type: ignore[assignment]
    finally:
        wipe(plaintext)
    if keys is None or keys.domain != DOMAIN:
        raise ConfigError("keys_damaged", "what was encrypted are no coordinator's keys")
    if keys.identity_key != identity_key:
        raise ConfigError("keys_damaged", "the keys are of another coordinator than their file says")
    return keys
