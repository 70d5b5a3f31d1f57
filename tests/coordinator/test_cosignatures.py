"""Whose cosignatures are collected: with keys that cannot be told apart a coordinator does not start."""

from pathlib import Path

import pytest
from nacl.signing import SigningKey

from tccp.coordinator.cosignatures import Cosignatures
from tccp.errors import ConfigError
from tccp.transparency.note import NoteKey, SignatureType
from tests.support.live_coordinator import HOST, live_coordinator
from tests.support.soft_tpm import SoftTpm

LOG = NoteKey("example.org/log", bytes(SigningKey.generate().verify_key))
WITNESS = NoteKey("example.net/w1", bytes(SigningKey.generate().verify_key), SignatureType.COSIGNATURE)


@pytest.mark.parametrize(
    ("witnesses", "reason"),
    [
        ((WITNESS, WITNESS), "ambiguous_keys"),
        ((WITNESS, NoteKey("example.net/w2", WITNESS.public_key, SignatureType.COSIGNATURE)), "ambiguous_keys"),
        ((NoteKey("example.net/w1", LOG.public_key, SignatureType.COSIGNATURE),), "ambiguous_keys"),
        ((NoteKey("example.net/w1", WITNESS.public_key),), "note_key"),
    ],
)
def test_keys_that_nobody_can_tell_apart_are_refused(witnesses: tuple[NoteKey, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Cosignatures(LOG, witnesses)


async def test_a_coordinator_with_such_keys_does_not_start(coordinator_tpm: SoftTpm, tmp_path: Path) -> None:
    """It would start, and end by the first cosignature that anybody brings."""
    twice = f'[[witness]]\nurl = "http://{HOST}:9/"\nkey = "{WITNESS}"\n' * 2

    with pytest.raises(BaseExceptionGroup) as refused:
        async with live_coordinator(tmp_path, coordinator_tpm, extra=twice):
            raise AssertionError("it started")

    assert refused.group_contains(ConfigError, match="ambiguous_keys", depth=None)
