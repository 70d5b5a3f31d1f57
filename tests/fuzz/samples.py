"""Some legal value of every message, made from the schema."""

from typing import Any, get_args

import msgspec

from tccp.protocol.encoding import encode


def sample(kind: Any) -> Any:
    """Some legal value of a type of msgspec's."""
    info = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    value: Any
    match info:
        case msgspec.inspect.BytesType():
            value = b"\x5a" * (info.min_length or min(40, info.max_length or 40))
        case msgspec.inspect.StrType():
            value = "a" * max(info.min_length or 0, 5)
            if info.pattern and info.pattern.startswith("^/"):
                value = f"/{value}"
            elif info.pattern and info.pattern.endswith(r":[0-9]{1,5}\Z"):
                value = f"{value}:1"
        case msgspec.inspect.LiteralType():
            value = info.values[0]
        case msgspec.inspect.IntType():
            value = max(info.ge or 0, 1)
        case msgspec.inspect.BoolType():
            value = True
        case msgspec.inspect.VarTupleType():
            value = tuple(sample(info.item_type) for _ in range(max(info.min_length or 0, 2)))
        case msgspec.inspect.DictType():
            value = {sample(info.key_type): sample(info.value_type)}
        case msgspec.inspect.UnionType():
            value = sample(info.types[0])
        case msgspec.inspect.StructType():
            value = info.cls(*(sample(field.type) for field in info.fields))
        case _:
            raise AssertionError(info)
    return value


def samples(union: Any) -> list[bytes]:
    """One of each message of *union*, encoded."""
    return [encode(sample(kind)) for kind in get_args(union)]
