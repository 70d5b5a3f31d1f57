"""The coordinator's long-lived keys: who it is, whom it certifies, and the door key of its perimeter.

    identity.key   Ed25519 seed; its public half is the coordinator's identity, which nodes and tenants pin
    log.key        Ed25519 seed; signs the checkpoints of the log
    log_salt.key   32 bytes, from which the salts of the log's entries are derived
    release.key    X-Wing seed; to its public half tenants wrap the keys of their VMs
    ca.key, .pem   P-256; issues lease certificates and the coordinator's own TLS certificate
    door.key, .pem P-256; given to every node in the trust file (see `tccp.transport.certificates`)

The TLS key is made anew at each start and lives in memory only.
"""

import datetime as dt
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from nacl.signing import SigningKey

from tccp import __version__
from tccp.errors import ConfigError, HostError
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

KEYS = "keys"
SEED_BYTES = 32
SEEDS = ("identity.key", "log.key", "log_salt.key", "release.key")
TLS_CERTIFICATE_DAYS = 397


@dataclass(frozen=True, slots=True)
class CoordinatorKeys:
    """The keys of one state directory."""

    signing_key: SigningKey = field(repr=False)
    log_signing_key: SigningKey = field(repr=False)
    log_salt_key: bytes = field(repr=False)
    release_key: RecipientSecretKey = field(repr=False)
    ca: Authority
    door: KeyPair

    @property
    def identity_key(self) -> bytes:
        """The public identity key, 32 bytes."""
        return bytes(self.signing_key.verify_key)

    @property
    def coordinator_id(self) -> bytes:
        """The coordinator's id, 32 bytes."""
        return coordinator_id(self.identity_key)

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


def create_keys(state: Path, *, now: dt.datetime) -> CoordinatorKeys:
    """Make the keys in the *state* directory, all or none.

    Raises:
        ConfigError: ``already_initialised``: there are keys; they are never overwritten.
        HostError: The directory cannot be written.
    """
    target = state / KEYS
    if target.exists():
        hint = "a coordinator's identity is made once; use another state_directory for another coordinator"
        raise ConfigError("already_initialised", f"{target} exists", hint=hint)
    ca = Authority.create("tccp coordinator CA", now=now)
    door = Authority.create("tccp door", now=now)
    files = {name: secrets.token_bytes(SEED_BYTES) for name in SEEDS} | {
        "ca.pem": ca.certificate,
        "ca.key": ca.key,
        "door.pem": door.certificate,
        "door.key": door.key,
    }
    staged = state / f".{KEYS}.{os.getpid()}"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged.mkdir(mode=0o700)
        for name, content in files.items():
            _write_synced(staged / name, content)
        _sync_directory(staged)
        staged.rename(target)
        _sync_directory(state)
    except OSError as problem:
        raise HostError("state_unwritable", f"{problem.filename}: {problem.strerror}") from None
    return load_keys(state)


def load_keys(state: Path) -> CoordinatorKeys:
    """The keys in the *state* directory.

    Raises:
        ConfigError: There are none, they cannot be read, or others may read them.
    """
    keys = state / KEYS
    try:
        if keys.stat().st_mode & 0o077:
            raise ConfigError("keys_exposed", f"{keys}: others may enter it", hint=f"chmod 700 {keys}")
        identity, log, log_salt, release, ca_pem, ca_key, door_pem, door_key = (
            (keys / name).read_bytes() for name in (*SEEDS, "ca.pem", "ca.key", "door.pem", "door.key")
        )
        door = KeyPair(certificate=door_pem, key=door_key)
        Authority(door)
        return CoordinatorKeys(
            signing_key=SigningKey(identity),
            log_signing_key=SigningKey(log),
            log_salt_key=log_salt,
            release_key=RecipientSecretKey.from_seed(release),
            ca=Authority(KeyPair(certificate=ca_pem, key=ca_key)),
            door=door,
        )
    except FileNotFoundError as problem:
        hint = "make the keys once: `tccp coordinator init --config FILE`"
        raise ConfigError("not_initialised", f"{problem.filename} does not exist", hint=hint) from None
    except OSError as problem:
        raise ConfigError("keys_unreadable", f"{problem.filename}: {problem.strerror}") from None
    except ValueError as problem:
        raise ConfigError("keys_damaged", f"{keys}: {problem}", hint="restore the directory from a backup") from None


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


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
