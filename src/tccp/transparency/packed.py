"""Small things in msgpack that a log shows: bounded on the way in, and written in one way only.

What is signed or hashed is kept as bytes; that there is one spelling of it keeps two readers from reading two things.
"""

import re
from collections.abc import Mapping

import msgpack

from tccp.errors import LogError

ITEMS_MAX = 64  # of one list or map
KEY = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)

Value = bytes | str | int
"""What a map of ours may hold: nothing that two readers could understand in two ways."""


def pack_list(*items: object) -> bytes:
    """A list, in the one spelling that `unpack_list` accepts."""
    return bytes(msgpack.packb(list(items)))


def unpack_list(data: bytes, *, bytes_max: int, reason: str) -> list[object]:
    """Read what `pack_list` writes.

    Raises:
        LogError: *reason*: longer than *bytes_max*, no list, or another spelling of it.
    """
    plain = _unpack(data, bytes_max, reason)
    if not isinstance(plain, list):
        raise LogError(reason, "no list")
    return plain


def pack_map(values: Mapping[str, Value]) -> bytes:
    """A map in the order of its keys, so that equal maps are equal bytes.

    Raises:
        ValueError: A key or a value is none that a map of ours may have: a bug of ours.
    """
    if len(values) > ITEMS_MAX:
        raise ValueError(f"{len(values)} values")
    for key, value in values.items():
        if not KEY.fullmatch(key) or isinstance(value, bool) or not isinstance(value, bytes | str | int):
            raise ValueError(f"{key!r}: no word, or neither bytes nor text nor a number")
    try:
        return bytes(msgpack.packb(dict(sorted(values.items()))))
    except OverflowError:
        raise ValueError("a number beyond 64 bits") from None


def unpack_map(data: bytes, *, bytes_max: int, reason: str) -> dict[str, Value]:
    """Read what `pack_map` writes.

    Raises:
        LogError: *reason*: longer than *bytes_max*, no map of words to bytes, text or numbers, or another spelling.
    """
    plain = _unpack(data, bytes_max, reason)
    if not isinstance(plain, dict):
        raise LogError(reason, "no map")
    values: dict[str, Value] = {}
    for key, value in plain.items():
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise LogError(reason, "a key that is no word")
        if isinstance(value, bool) or not isinstance(value, bytes | str | int):
            raise LogError(reason, f"{key}: neither bytes nor text nor a number")
        values[key] = value
    if list(values) != sorted(values):
        raise LogError(reason, "keys out of order")
    return values


def _unpack(data: bytes, bytes_max: int, reason: str) -> object:
    if len(data) > bytes_max:
        raise LogError(reason, f"{len(data)} bytes")
    size = len(data)
    limits = {"max_str_len": size, "max_bin_len": size, "max_array_len": ITEMS_MAX, "max_map_len": ITEMS_MAX}
    try:
        plain: object = msgpack.unpackb(data, strict_map_key=True, max_ext_len=0, **limits)
        again = msgpack.packb(plain)
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException, RecursionError) as problem:
        raise LogError(reason, f"not msgpack: {type(problem).__name__}") from None
    if again != data:
        raise LogError(reason, "not the one way to write it")
    return plain
