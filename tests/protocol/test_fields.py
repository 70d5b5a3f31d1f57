"""What a field may hold: its shortest and longest, its least and greatest, and not one more or less."""

from collections.abc import Iterator
from typing import Any, get_args

import msgpack
import msgspec
import pytest

from tccp.errors import ProtocolError
from tccp.protocol import fields as f
from tccp.protocol.encoding import decode
from tccp.protocol.messages import AnyMessage
from tccp.protocol.tenant_messages import AnyTenantMessage

# Of bytes and texts their length, of sequences how many items they have.
SIZES: list[tuple[str, int, int]] = [
    ("Digest32", 32, 32),
    ("Nonce32", 32, 32),
    ("NonceOrNone", 0, 32),
    ("Id16", 16, 16),
    ("Ed25519Key", 32, 32),
    ("Ed25519Signature", 64, 64),
    ("HpkeKey", 1184 + 32, 1184 + 32),
    ("SmallSpki", 32, 1024),
    ("Certificate", 64, 8192),
    ("CertificateOrNone", 0, 8192),
    ("TpmPublic", 16, 1024),
    ("TpmBlob", 1, 1024),
    ("Attest", 16, 2304),
    ("TpmSignature", 8, 1100),
    ("PcrDigest", 20, 64),
    ("FirmwareLog", 0, 768 << 10),
    ("HostLogContent", 0, 768 << 10),
    ("LogReceipt", 64, 64 << 10),
    ("Statement", 1, 8192),
    ("TicketFile", 1, 128 << 10),
    ("TicketBytes", 64, 64 << 10),
    ("WrappedKeys", 1120 + 2 * 32 + 16, 1120 + 17 * 32 + 16),
    ("DigestOrNone", 0, 32),
    ("Marks", 0, 9 * 40),
    ("LogNote", 1, 16 << 10),
    ("TileContent", 32, 256 * 32),
    ("PolicyText", 1, (256 << 10) + 512),
]
TEXTS = [("Name", 1, 63), ("Version", 0, 64), ("Url", 0, 512), ("Text", 0, 4096), ("Reason", 1, 64)]
ITEMS: list[tuple[str, Any, int, int]] = [
    ("CertificateChain", bytes(64), 0, 6),
    ("PcrIndexes", 0, 1, 24),
    ("PcrDigests", bytes(32), 1, 24),
    ("MerklePath", bytes(32), 0, 32),
]
NUMBERS = [
    ("PcrIndex", 0, 23),
    ("BankId", 0, 0xFFFF),
    ("HostLogOffset", 0, (1 << 40) - 1),
    ("Seconds", 1, 86_400),
    ("UnixSeconds", 0, (1 << 40) - 1),
    ("UnixMilliseconds", 0, (1 << 48) - 1),
    ("Epoch", 1, (1 << 63) - 1),
    ("Generation", 0, (1 << 63) - 1),
    ("TileLevel", 0, 7),
    ("TileIndex", 0, (1 << 55) - 1),
    ("TileWidth", 1, 256),
]
LIMITS = [
    *((name, bytes(least), bytes(most), bytes(least - 1) if least else None, bytes(most + 1))
      for name, least, most in SIZES),
    *((name, "x" * least, "x" * most, "" if least else None, "x" * (most + 1)) for name, least, most in TEXTS),
    *((name, [item] * least, [item] * most, [] if least else None, [item] * (most + 1))
      for name, item, least, most in ITEMS),
    *((name, least, most, least - 1, most + 1) for name, least, most in NUMBERS),
]  # fmt: skip


def read(name: str, value: object) -> object:
    return decode(msgpack.packb(value), getattr(f, name))


@pytest.mark.parametrize(("name", "least", "most", "less", "more"), LIMITS, ids=[limits[0] for limits in LIMITS])
def test_a_field_takes_its_least_and_its_most_and_nothing_beyond(
    name: str, least: object, most: object, less: object, more: object
) -> None:
    for legal in (least, most):
        taken = read(name, legal)
        assert (list(taken) if isinstance(taken, tuple) else taken) == legal
    for illegal in (less, more):
        if illegal is not None:
            with pytest.raises(ProtocolError):
                read(name, illegal)


def unbounded(kind: msgspec.inspect.Type, where: str) -> Iterator[str]:
    """The fields below *kind* that a peer could make as long as a frame."""
    match kind:
        case msgspec.inspect.StructType():
            for field in kind.fields:
                yield from unbounded(field.type, f"{kind.cls.__name__}.{field.name}")
        case msgspec.inspect.StrType():
            is_bounded = kind.max_length is not None or "{1,64}\\Z" in (kind.pattern or "")
            yield from () if is_bounded else (where,)
        case msgspec.inspect.BytesType():
            yield from () if kind.max_length is not None else (where,)
        case msgspec.inspect.VarTupleType():
            yield from () if kind.max_length is not None else (where,)
            yield from unbounded(kind.item_type, where)
        case msgspec.inspect.IntType() | msgspec.inspect.LiteralType():
            pass
        case _:
            yield f"{where}: {kind}"


@pytest.mark.parametrize(
    "message", [*get_args(AnyMessage), *get_args(AnyTenantMessage)], ids=lambda kind: kind.__name__
)
def test_nothing_that_a_peer_says_on_the_network_is_without_a_bound(message: type) -> None:
    assert not list(unbounded(msgspec.inspect.type_info(message), ""))
