"""Fuzz targets for what a transparency log shows: notes, checkpoints, tiles and their paths, entries and receipts."""

import dataclasses
import functools

from nacl.signing import SigningKey

from tccp.errors import LogError
from tccp.merkle import full_root, leaf_hash
from tccp.tenant.trust import continue_log
from tccp.transparency.add_checkpoint import PROOF_LINES_MAX, AddCheckpoint, parse_add_checkpoint
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint, verify_checkpoint
from tccp.transparency.entry import commit, decode_entry, log_salt, make_entry, open_commitment
from tccp.transparency.note import NOTE_BYTES_MAX, Note, NoteSigner, SignatureType, parse_note, sign_note
from tccp.transparency.packed import pack_map
from tccp.transparency.receipt import Receipt, decode_receipt, encode_receipt, verify_receipt
from tccp.transparency.tile import ENTRIES, Tile, decode_entries, decode_hashes, encode_entries, parse_tile_path
from tccp.transparency.tree_edge import TreeEdge

ORIGIN = "example.org/log"


@functools.cache
def _signers() -> tuple[NoteSigner, NoteSigner]:
    log = NoteSigner(ORIGIN, SigningKey(bytes(32)))
    return log, NoteSigner("witness.example/w", SigningKey(bytes([1] * 32)), SignatureType.COSIGNATURE)


@functools.cache
def _signed() -> Note:
    log, witness = _signers()
    text = Checkpoint(ORIGIN, 70_000, bytes(range(32))).text()
    return Note(text, (log.sign(text), witness.sign(text, 1_700_000_000)))


def feed_note(data: bytes) -> bool:
    """Bytes that are a note are written again as they were; what is verified is the one text that was signed."""
    log, witness = _signers()
    try:
        note = parse_note(data)
    except LogError:
        return False
    assert note.encode() == data
    assert len(data) <= NOTE_BYTES_MAX
    try:
        verified = verify_checkpoint(data, origin=ORIGIN, log_key=log.key, witnesses=[witness.key])
    except LogError:
        return False
    assert verified.note.text == _signed().text
    return True


def feed_checkpoint(data: bytes) -> bool:
    """A checkpoint is written again as it was."""
    try:
        text = data.decode()
        checkpoint = parse_checkpoint(text)
    except (UnicodeDecodeError, LogError):
        return False
    assert checkpoint.text() == text
    return True


def feed_tile(data: bytes) -> bool:
    """A path, a newline, and the content of that tile: of hashes or of entries."""
    path, _, content = data.partition(b"\n")
    try:
        tile = parse_tile_path(path.decode("latin-1"))
        if tile.level == ENTRIES:
            assert encode_entries(decode_entries(tile, content)) == content
        else:
            assert b"".join(decode_hashes(tile, content)) == content
    except LogError:
        return False
    assert tile.path.encode() == path
    assert len(content) <= tile.bytes_max
    return True


def feed_entry(data: bytes) -> bool:
    """An entry is written again as it was."""
    try:
        entry = decode_entry(data)
    except LogError:
        return False
    assert entry.encode() == data
    assert entry.public_values() is not None
    return True


def feed_receipt(data: bytes) -> bool:
    """A receipt is written again as it was; what is verified is the one entry that is in the log."""
    try:
        receipt = decode_receipt(data)
    except LogError:
        return False
    assert encode_receipt(receipt) == data
    try:
        verified = verify_receipt(data, origin=ORIGIN, log_key=_signers()[0].key)
    except LogError:
        pass
    else:
        assert receipt.entry == _receipt().entry
        assert verified.details in (None, {"node": "n1"})
    return True


def feed_details(data: bytes) -> bool:
    """Details of an entry that commits to whatever they are: a map or a refusal."""
    salt = bytes(32)
    entry = dataclasses.replace(decode_entry(entries()[0]), commitment=commit(data, salt))
    try:
        open_commitment(entry, data, salt)
    except LogError:
        return False
    return True


def feed_add_checkpoint(data: bytes) -> bool:
    """A request to a witness is written again as it was."""
    try:
        asked = parse_add_checkpoint(data)
    except LogError:
        return False
    assert asked.encode() == data
    assert len(asked.proof) <= PROOF_LINES_MAX
    return True


# ---- tiles of a log that grows, from anybody

LEAVES = tuple(leaf_hash(number.to_bytes(2, "big")) for number in range(300))
OLD_SIZE = 131


@functools.cache
def _heads() -> tuple[Checkpoint, tuple[VerifiedCheckpoint, VerifiedCheckpoint]]:
    """What was seen, and two newer heads: one that continues it, and one of a log whose entry was altered since."""
    forked = (*LEAVES[: OLD_SIZE - 1], bytes(32), *LEAVES[OLD_SIZE:])
    newer = []
    for leaves in (LEAVES, forked):
        note = sign_note(Checkpoint(ORIGIN, len(leaves), _root(leaves)).text(), _signers()[0]).encode()
        newer.append(verify_checkpoint(note, origin=ORIGIN, log_key=_signers()[0].key))
    return Checkpoint(ORIGIN, OLD_SIZE, _root(LEAVES[:OLD_SIZE])), (newer[0], newer[1])


def _root(leaves: tuple[bytes, ...]) -> bytes:
    edge = TreeEdge()
    edge.extend(leaves)
    return edge.root()


def feed_tiles(data: bytes) -> bool:
    """The first byte says which head it is that the tiles are to lead to. To the forked one none do."""
    if not data:
        return False
    old, newer = _heads()
    left = data[1:]

    def read(tile: Tile) -> bytes:
        nonlocal left
        content, left = left[: tile.bytes_max], left[tile.bytes_max :]
        return content

    is_fork = bool(data[0] % 2)
    try:
        continue_log(read, old, newer[is_fork])
    except LogError:
        return False
    assert not is_fork
    return True


def continued() -> list[bytes]:
    """The tiles of the log itself, in the order in which they are asked for."""
    old, newer = _heads()
    shown = [b"\0"]

    def read(tile: Tile) -> bytes:
        below = 256**tile.level
        starts = range(tile.index * 256 * below, (tile.index * 256 + tile.width) * below, below)
        shown.append(b"".join(full_root(LEAVES[start : start + below]) for start in starts))
        return shown[-1]

    continue_log(read, old, newer[0])
    return [b"".join(shown)]


@functools.cache
def _receipt() -> Receipt:
    details, salt = pack_map({"node": "n1"}), log_salt(bytes(32), 1)
    entry = make_entry("policy", 1, {"name": "tvmm", "version": 1}, details, salt).encode()
    note = sign_note(Checkpoint(ORIGIN, 1, leaf_hash(entry)).text(), _signers()[0])
    return Receipt(entry, 0, details, salt, (), note.encode())


def entries() -> list[bytes]:
    """One with something to read in it, and one without."""
    salt = log_salt(bytes(32), 1)
    return [_receipt().entry, make_entry("admit", 2, {}, pack_map({}), salt).encode()]


def receipts() -> list[bytes]:
    """With details, without, and one with a path that leads nowhere."""
    whole = _receipt()
    bare = dataclasses.replace(whole, details=b"", salt=b"")
    return [encode_receipt(each) for each in (whole, bare, dataclasses.replace(whole, path=(bytes(32),) * 3))]


def add_checkpoints() -> list[bytes]:
    """The first one of a log, and a later one."""
    note = _signed().encode()
    return [AddCheckpoint(0, (), note).encode(), AddCheckpoint(69_000, (bytes(32), b"\xff" * 32), note).encode()]


def details() -> list[bytes]:
    """What a node's admission and a refusal may look like."""
    return [pack_map({"node": "n1", "body": bytes(40)}), pack_map({"at": 1, "reason": "policy"})]


def _tile(tile: Tile, content: bytes) -> bytes:
    return tile.path.encode() + b"\n" + content


def notes() -> list[bytes]:
    """A signed and witnessed checkpoint, and one with a stranger's signature below."""
    signed = _signed()
    stranger = NoteSigner("stranger.example", SigningKey(bytes([2] * 32))).sign(signed.text)
    return [signed.encode(), Note(signed.text, (signed.signatures[0], stranger)).encode()]


def checkpoints() -> list[bytes]:
    """An empty log's, a great one's, and one with lines of somebody else's invention."""
    heads = [Checkpoint("a", 0, bytes(32)), Checkpoint(ORIGIN, (1 << 63) - 1, b"\xff" * 32, ("more", "and more"))]
    return [head.text().encode() for head in heads]


def tiles() -> list[bytes]:
    """Tiles and bundles, full and partial."""
    return [
        _tile(Tile(0, 1_234_067, 2), bytes(64)),
        _tile(Tile(1, 0), bytes(8192)),
        _tile(Tile(ENTRIES, 0, 3), encode_entries([b"", b"one", bytes(300)])),
        _tile(Tile(ENTRIES, 999), encode_entries([b"x"] * 256)),
    ]
