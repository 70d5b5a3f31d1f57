"""Keys handed on: the keys of a VM from its tenant to the coordinator, and from there to one boot of one node.

All keys of a VM travel in one box (HPKE in base mode, the suite of `tccp.image.recipients`), bound by its info string
to what they are for. Opened keys stay in locked memory.
"""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag

from tccp.core.image import ImageKey
from tccp.errors import LaunchError
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.recipients import HPKE

KEY_BYTES = 32


def wrap_keys(keys: Sequence[ImageKey], recipient: RecipientPublicKey, info: bytes) -> bytes:
    """*keys*, one after another, for *recipient* alone.

    Args:
        info: What they are bound to; they open under no other.

    Raises:
        ConfigError: ``key_malformed``: ML-KEM allows no such recipient.
    """
    plain = bytearray(KEY_BYTES * len(keys))
    try:
        for number, key in enumerate(keys):
            plain[KEY_BYTES * number : KEY_BYTES * (number + 1)] = key.buffer
        return HPKE.encrypt(plain, recipient.hpke_key(), info)
    finally:
        plain[:] = bytes(len(plain))


def unwrap_keys(wrapped: bytes, secret: RecipientSecretKey, info: bytes, *, count: int) -> list[ImageKey]:
    """The *count* keys in *wrapped*.

    Raises:
        LaunchError: ``keys_unopened``: wrapped to somebody else, bound to something else, altered, or not so many.
    """
    try:
        plain = HPKE.decrypt(wrapped, secret.hpke_key, info)
    except (InvalidTag, ValueError):
        raise LaunchError("keys_unopened", "not wrapped to us for this, or altered on the way") from None
    # Each is moved out of the very memory of *plain*, which is zeros afterwards.
    places = [memoryview(plain)[at : at + KEY_BYTES] for at in range(0, len(plain), KEY_BYTES)]
    keys = [ImageKey.take(place) for place in places if len(place) == KEY_BYTES]
    if len(keys) != count or len(plain) != KEY_BYTES * count:
        raise LaunchError("keys_unopened", f"{len(plain)} bytes instead of {count} keys")
    return keys
