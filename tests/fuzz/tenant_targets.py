"""Fuzz targets for what a tenant keeps: her policy, and what she has pinned."""

from nacl.signing import SigningKey

from tccp.errors import ConfigError
from tccp.protocol.statements import coordinator_id, log_origin
from tccp.tenant.policy import parse_tenant_policy
from tccp.tenant.trust_store import FORMAT, PinnedCoordinator, parse_pinned, write_pinned
from tccp.transparency.checkpoint import Checkpoint
from tccp.transparency.note import NoteKey, NoteSigner, SignatureType, sign_note
from tccp.transport.certificates import fresh_key, spki_of_key
from tests.support.certificates import Authority, pem

WITNESS = NoteKey("witness.example/w", bytes(SigningKey(bytes(32)).verify_key), SignatureType.COSIGNATURE)


def feed_policy(data: bytes) -> bool:
    """A policy that says whose TPM counts and what it must have booted, or a refusal."""
    try:
        policy = parse_tenant_policy(data)
    except ConfigError:
        return False
    assert policy.allowed
    assert [policy.ek_authorities, policy.ek_sha256, policy.ak_spki].count(None) == 2
    assert 0 <= policy.witnesses_required <= len(policy.witnesses)
    return True


def feed_pinned(data: bytes) -> bool:
    """A file that is accepted can be written and read again, and all that is asked of it is there."""
    try:
        pinned = parse_pinned(data)
    except ConfigError:
        return False
    assert parse_pinned(write_pinned(pinned)) == pinned
    assert pinned.head.origin == pinned.origin == pinned.note_key.name
    assert len(pinned.release_key_raw) == 1216
    assert pinned.demands.body == pinned.policy.encode()
    assert pinned.host
    return True


def policies() -> list[bytes]:
    """One of each kind."""
    pcrs = f'[pcrs]\n0 = ["{"ab" * 32}", "{"cd" * 32}"]\n7 = "{"00" * 32}"\n'
    witness = f'[[witness]]\nkey = "{WITNESS}"\n'
    return [
        f'ek_authorities = "x"\nsoftware = ["0.1.0"]\n{pcrs}'.encode(),
        f'ek = "{"ab" * 32}"\nidentity = "{"cd" * 32}"\nwitnesses_required = 1\n{pcrs}{witness}'.encode(),
        f'ak = "{spki_of_key(fresh_key()).hex()}"\nwitness_age_s = 9\n{pcrs}'.encode(),
    ]


def pinned() -> list[bytes]:
    """A coordinator that was verified once."""
    key = SigningKey(bytes([7] * 32))
    identity = bytes(key.verify_key)
    origin = log_origin(coordinator_id(identity))
    note = sign_note(Checkpoint(origin, 3, bytes(32)).text(), NoteSigner(origin, key))
    whole = PinnedCoordinator(
        format=FORMAT,
        name="tc",
        address="[::1]:7444",
        identity=identity.hex(),
        ca=pem(Authority().der).decode(),
        ak="ab" * 91,
        log_key=identity.hex(),
        release_key="cd" * 1216,
        log_url="https://log.example/",
        software="0.1.0",
        policy=policies()[1].decode(),
        seen=note.encode().decode(),
        added_s=1,
        checked_s=2,
    )
    return [write_pinned(whole)]
