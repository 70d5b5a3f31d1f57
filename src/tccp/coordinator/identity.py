"""The coordinator's keys as it works with them, and the identity that it shows: who it is, and whom it certifies.

The long-lived ones come out of the TPM's keeping at each start (`tccp.coordinator.custody`); the TLS key is made anew
and lives in memory only.
"""

import datetime as dt
import hmac
from dataclasses import dataclass, field

from nacl.signing import SigningKey

from tccp import __version__
from tccp.coordinator.custody.key_set import KeySet
from tccp.errors import ConfigError
from tccp.image.keys import RecipientSecretKey
from tccp.protocol.statements import (
    COORDINATOR_DOMAIN,
    CoordinatorStatement,
    coordinator_id,
    encode_statement,
)
from tccp.transport.certificates import (
    COORDINATOR_HOST,
    Authority,
    KeyPair,
    fresh_key,
    key_pem,
    pem_of,
    spki_of_key,
)

TLS_CERTIFICATE_DAYS = 397


@dataclass(frozen=True, slots=True)
class CoordinatorKeys:
    """The long-lived keys, ready for use."""

    signing_key: SigningKey = field(repr=False)
    log_signing_key: SigningKey = field(repr=False)
    log_salt_key: bytes = field(repr=False)
    release_key: RecipientSecretKey = field(repr=False)
    ca: Authority
    door: KeyPair

    @classmethod
    def of(cls, keys: KeySet) -> "CoordinatorKeys":
        """The keys in *keys*.

        Raises:
            ConfigError: ``keys_damaged``: one of them is none.
        """
        door = KeyPair(certificate=keys.door_certificate, key=keys.door_key)
        try:
            Authority(door)
            ca = Authority(KeyPair(certificate=keys.ca_certificate, key=keys.ca_key))
        except ValueError as problem:
            raise ConfigError("keys_damaged", f"a certificate or its key: {problem}") from None
        return cls(
            signing_key=SigningKey(keys.identity_seed),
            log_signing_key=SigningKey(keys.log_seed),
            log_salt_key=keys.log_salt_key,
            release_key=RecipientSecretKey.from_seed(keys.release_seed),
            ca=ca,
            door=door,
        )

    @property
    def identity_key(self) -> bytes:
        """The public identity key, 32 bytes."""
        return bytes(self.signing_key.verify_key)

    @property
    def coordinator_id(self) -> bytes:
        """The coordinator's id, 32 bytes."""
        return coordinator_id(self.identity_key)

    @property
    def memory_key(self) -> bytes:
        """For what is kept in the database and counts only if it is our own, 32 bytes."""
        return hmac.digest(self.log_salt_key, b"tccp/v1/memory-key\0", "sha256")

    @property
    def log_key(self) -> bytes:
        """The public key of the log's checkpoints, 32 bytes."""
        return bytes(self.log_signing_key.verify_key)


@dataclass(frozen=True, slots=True)
class CoordinatorIdentity:
    """What one start of the coordinator shows: its TLS key, and the signed statement of all its keys."""

    keys: CoordinatorKeys
    tls: KeyPair
    tls_spki: bytes
    statement: bytes
    statement_signature: bytes


def make_identity(keys: CoordinatorKeys, *, now: dt.datetime) -> CoordinatorIdentity:
    """A fresh TLS key with its certificate, and the statement that ties it to the identity."""
    key = fresh_key()
    spki = spki_of_key(key)
    not_after = now + dt.timedelta(days=TLS_CERTIFICATE_DAYS)
    certificate = keys.ca.issue(spki, COORDINATOR_HOST, not_before=now, not_after=not_after, server=True, client=False)
    statement = encode_statement(
        CoordinatorStatement(
            domain=COORDINATOR_DOMAIN,
            identity_key=keys.identity_key,
            ca_spki=keys.ca.spki,
            tls_spki=spki,
            log_key=keys.log_key,
            release_key=keys.release_key.public.raw,
            software=__version__,
        )
    )
    return CoordinatorIdentity(
        keys=keys,
        tls=KeyPair(certificate=pem_of(certificate), key=key_pem(key)),
        tls_spki=spki,
        statement=statement,
        statement_signature=keys.signing_key.sign(statement).signature,
    )
