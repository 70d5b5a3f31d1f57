"""The key of a witness: an Ed25519 seed in a file that nobody else may read."""

import secrets
from pathlib import Path

from nacl.signing import SigningKey

from tccp.durable import create_file
from tccp.errors import ConfigError
from tccp.transparency.note import NoteSigner, SignatureType
from tccp.witness.memory import create_memory

KEY = "witness.key"


def create_witness(state: Path, name: str) -> NoteSigner:
    """Make key and memory of a witness, once.

    Raises:
        ConfigError: ``already_initialised``, ``note_key``: nobody can be called that.
        HostError: They cannot be written.
    """
    seed = secrets.token_bytes(32)
    signer = NoteSigner(name, SigningKey(seed), SignatureType.COSIGNATURE)
    create_memory(state)
    try:
        create_file(state / KEY, seed, mode=0o600)
    except FileExistsError:
        raise ConfigError("already_initialised", f"{state / KEY} exists") from None
    return signer


def load_signer(state: Path, name: str) -> NoteSigner:
    """The key of the witness in *state*.

    Raises:
        ConfigError: There is none, others may read it, or it is damaged.
    """
    path = state / KEY
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError("keys_exposed", f"{path}: others may read it", hint=f"chmod 600 {path}")
        seed = path.read_bytes()
    except FileNotFoundError:
        hint = "make the witness once: `tccp witness init --config FILE`"
        raise ConfigError("not_initialised", f"{path} does not exist", hint=hint) from None
    except OSError as problem:
        raise ConfigError("keys_unreadable", f"{path}: {problem.strerror}") from None
    if len(seed) != 32:
        raise ConfigError("keys_damaged", f"{path}: not 32 bytes", hint="restore it from a backup")
    return NoteSigner(name, SigningKey(seed), SignatureType.COSIGNATURE)
