"""Fuzz targets for what a transparency log shows: notes, checkpoints, tiles and their paths."""

import functools

from nacl.signing import SigningKey

from tccp.errors import LogError
from tccp.transparency.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from tccp.transparency.note import NOTE_BYTES_MAX, Note, NoteSigner, SignatureType, parse_note
from tccp.transparency.tile import ENTRIES, Tile, decode_entries, decode_hashes, encode_entries, parse_tile_path

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
