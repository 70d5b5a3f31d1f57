"""msgpack <-> typed messages, bounded on the way in.

Plain objects are unpacked with every limit of msgpack set, then turned into frozen typed messages with all their
constraints checked. ``bytes`` are bytes: without *builtin_types* msgspec would take a string for base64 of them.
"""

import functools
from typing import Any, get_args

import msgpack
import msgspec

from tccp.errors import ProtocolError

ITEMS_MAX = 4096


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of everything on a wire: ``[tag, field, ...]`` in the order of the class."""


def encode(message: msgspec.Struct) -> bytes:
    """The msgpack bytes of *message*."""
    return msgspec.msgpack.encode(message)


def decode(payload: bytes, kind: Any, *, items_max: int = ITEMS_MAX) -> Any:
    """*payload* as an instance of *kind*, a message class or a union of tagged ones.

    Args:
        items_max: How many items an array may have.

    Raises:
        ProtocolError: Not msgpack, more than one object, beyond a limit, or not a legal value of *kind*.
    """
    size = len(payload)
    try:
        plain = msgpack.unpackb(
            payload,
            use_list=False,
            strict_map_key=True,
            max_str_len=min(size, 65_536),
            max_bin_len=size,
            max_array_len=min(size, items_max),
            max_map_len=min(size, 256),
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as problem:
        raise ProtocolError("not_a_message", f"not msgpack: {type(problem).__name__}: {problem}") from None
    try:
        return msgspec.convert(plain, _class_for(plain, kind), strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as problem:
        raise ProtocolError("not_a_message", str(problem)) from None


def _class_for(plain: object, kind: Any) -> Any:
    """The one class of *kind* that the tag of *plain* names, or *kind* itself, which then refuses it in words.

    msgspec prepares a class once and a union at each call, which costs ten times the conversion.
    """
    tag = plain[0] if isinstance(plain, tuple) and plain else None
    return _by_tag(kind).get(tag, kind) if isinstance(tag, str) else kind


@functools.cache
def _by_tag(kind: Any) -> dict[str, type[msgspec.Struct]]:
    classes = get_args(kind) or (kind,)
    return {cls.__struct_config__.tag: cls for cls in classes if cls.__struct_config__.tag is not None}
