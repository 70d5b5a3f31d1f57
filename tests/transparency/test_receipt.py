"""A receipt proves that an entry is in the log, and what it is about; altered anywhere, it proves nothing."""

import dataclasses

import msgpack
import pytest

from tccp.errors import LogError
from tccp.transparency.entry import log_salt, make_entry
from tccp.transparency.note import NoteKey
from tccp.transparency.packed import pack_map
from tccp.transparency.proof import TileHashes, prove_inclusion
from tccp.transparency.receipt import Receipt, VerifiedReceipt, decode_receipt, encode_receipt, verify_receipt
from tests.transparency.support import ORIGIN, MemoryTiles, naive_root, signed_checkpoint, signer, witness

SIZE = 300
SALT_KEY = bytes(32)


def details_of(seq: int) -> bytes:
    return pack_map({"node": f"n{seq % 5}", "body": bytes([seq % 256])})


def entry_of(seq: int) -> bytes:
    return make_entry("admit", 1_000 + seq, {"seq": seq}, details_of(seq), log_salt(SALT_KEY, seq)).encode()


ENTRIES = [entry_of(seq) for seq in range(1, SIZE + 1)]
TILES = MemoryTiles(ENTRIES)
WITNESS = witness()


def receipt(index: int = 123) -> Receipt:
    path = tuple(prove_inclusion(TileHashes(TILES.read, SIZE), index))
    note = signed_checkpoint(SIZE, naive_root(ENTRIES))
    return Receipt(ENTRIES[index], index, details_of(index + 1), log_salt(SALT_KEY, index + 1), path, note)


def verify(data: bytes, *, key: NoteKey | None = None, witnesses_required: int = 0) -> VerifiedReceipt:
    return verify_receipt(
        data,
        origin=ORIGIN,
        log_key=key or signer().key,
        witnesses=[WITNESS.key],
        witnesses_required=witnesses_required,
    )


@pytest.mark.parametrize("index", [0, 123, 255, 256, SIZE - 1])
def test_a_receipt_of_any_entry_proves_it(index: int) -> None:
    proved = verify(encode_receipt(receipt(index)))

    assert (proved.kind, proved.at_ms, proved.public) == ("admit", 1_001 + index, {"seq": index + 1})
    assert proved.details == {"node": f"n{(index + 1) % 5}", "body": bytes([(index + 1) % 256])}
    assert (proved.index, proved.checkpoint.checkpoint.size) == (index, SIZE)


def test_a_receipt_without_details_proves_what_everybody_may_read() -> None:
    bare = dataclasses.replace(receipt(), details=b"", salt=b"")

    proved = verify(encode_receipt(bare))

    assert proved.details is None
    assert proved.public == {"seq": 124}


def test_no_bit_of_a_receipt_can_be_changed() -> None:
    data = encode_receipt(receipt())
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1
        with pytest.raises(LogError):
            verify(bytes(altered))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entry": ENTRIES[124]}, "inclusion"),
        ({"index": 124}, "inclusion"),
        ({"index": SIZE}, "not_in_tree"),
        ({"details": details_of(1)}, "commitment"),
        ({"salt": log_salt(SALT_KEY, 1)}, "commitment"),
        ({"salt": b""}, "receipt_malformed"),
        ({"salt": b"short"}, "receipt_malformed"),
        ({"path": ()}, "inclusion"),
        ({"path": (bytes(31),)}, "receipt_malformed"),
        ({"path": (bytes(32),) * 65}, "receipt_malformed"),
        ({"checkpoint": signed_checkpoint(SIZE, bytes(32))}, "inclusion"),
        ({"checkpoint": b""}, "note_malformed"),
    ],
)
def test_each_part_that_is_of_another_receipt_is_found(change: dict[str, object], reason: str) -> None:
    other = dataclasses.replace(receipt(), **change)  # type: ignore[arg-type]

    with pytest.raises(LogError) as refused:
        verify(encode_receipt(other))
    assert refused.value.reason == reason


def test_a_receipt_of_another_log_proves_nothing_here() -> None:
    data = encode_receipt(receipt())

    with pytest.raises(LogError, match="unsigned"):
        verify(data, key=signer("elsewhere.example/log").key)
    with pytest.raises(LogError, match="origin"):
        verify_receipt(data, origin="elsewhere.example/log", log_key=signer().key)


def test_a_leaf_that_is_in_the_log_and_no_entry_is_refused() -> None:
    """Whoever feeds the log anything at all cannot make it say what no entry says."""
    tiles = MemoryTiles([b"anything"])
    note = signed_checkpoint(1, tiles.edge.root())

    with pytest.raises(LogError, match="entry_malformed"):
        verify(encode_receipt(Receipt(b"anything", 0, b"", b"", (), note)))


def test_a_receipt_counts_the_witnesses_that_its_reader_names() -> None:
    with pytest.raises(LogError, match="witnesses"):
        verify(encode_receipt(receipt()), witnesses_required=1)

    note = signed_checkpoint(SIZE, naive_root(ENTRIES), WITNESS)
    seen = verify(encode_receipt(dataclasses.replace(receipt(), checkpoint=note)), witnesses_required=1)
    assert list(seen.checkpoint.witnessed_s) == [WITNESS.key]


def test_a_receipt_that_says_it_is_something_else_is_none() -> None:
    plain = msgpack.unpackb(encode_receipt(receipt()))

    with pytest.raises(LogError, match="receipt_malformed"):
        decode_receipt(msgpack.packb(["tccp/v2/receipt", *plain[1:]]))
    with pytest.raises(LogError, match="receipt_malformed"):
        decode_receipt(msgpack.packb(plain[:-1]))
