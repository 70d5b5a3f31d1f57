"""Tiles: 256 hashes, or 256 entries, in one file whose content never changes once it is full. C2SP tlog-tiles.

A tile of level L holds the hashes of subtrees of 256**L leaves each, next to each other; so each hash of level 1 is
the root over one full tile of level 0. The entries themselves are in bundles, cut as the tiles of level 0.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tccp.errors import LogError
from tccp.merkle import HASH_BYTES

WIDTH_MAX = 256
LEVEL_MAX = 7  # 256**8 leaves would be more than 2**63
ENTRIES = -1  # the "level" of a bundle of entries
ENTRY_BYTES_MAX = 65_535
SIZE_MAX = (1 << 63) - 1

_PATH = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True, order=True)
class Tile:
    """Where a tile stands: its level (or `ENTRIES`), its index in the level, and how many hashes or entries it has."""

    level: int
    index: int
    width: int = WIDTH_MAX

    def __post_init__(self) -> None:
        """What cannot be is a mistake of ours: foreign paths come through `parse_tile_path`."""
        if not (ENTRIES <= self.level <= LEVEL_MAX and 0 <= self.index <= SIZE_MAX and 1 <= self.width <= WIDTH_MAX):
            raise ValueError(f"no such tile: {self.level}, {self.index}, {self.width}")

    @property
    def path(self) -> str:
        """Its path below the log's prefix: ``tile/0/x001/234.p/5``."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        suffix = "" if self.width == WIDTH_MAX else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{suffix}"

    @property
    def bytes_max(self) -> int:
        """No content of this tile is longer."""
        return self.width * (2 + ENTRY_BYTES_MAX if self.level == ENTRIES else HASH_BYTES)


def _index_path(index: int) -> str:
    elements = [f"{index % 1000:03}"]
    while index := index // 1000:
        elements.append(f"x{index % 1000:03}")
    return "/".join(reversed(elements))


def parse_tile_path(path: str) -> Tile:
    """The tile that *path* names; only the one spelling that `Tile.path` writes is one.

    Raises:
        LogError: ``tile_path``.
    """
    match = _PATH.fullmatch(path) if len(path) <= 64 else None
    if match is None:
        raise LogError("tile_path", "no path of a tile")
    level, index, width = match.groups()
    number = int(index.replace("x", "").replace("/", ""))
    if number > SIZE_MAX or int(width or 1) >= WIDTH_MAX:
        raise LogError("tile_path", "out of range")
    tile = Tile(ENTRIES if level == "entries" else int(level), number, int(width or WIDTH_MAX))
    if tile.path != path:
        raise LogError("tile_path", "leading zeroes")
    return tile


def tile_at(level: int, index: int, size: int) -> Tile:
    """The tile as it is in a tree of *size* leaves, which reaches into it; full, or as wide as the tree is there."""
    hashes = size if level == ENTRIES else size >> 8 * level
    return Tile(level, index, min(WIDTH_MAX, hashes - index * WIDTH_MAX))


# ---- contents


def decode_hashes(tile: Tile, data: bytes) -> list[bytes]:
    """The hashes in a tile.

    Raises:
        LogError: ``tile_length``: cut off, or more than the tile can hold.
    """
    if len(data) != tile.width * HASH_BYTES:
        raise LogError("tile_length", f"{tile.path}: {len(data)} bytes")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle: each entry after its length, 2 bytes big-endian.

    Raises:
        ValueError: An entry is longer than `ENTRY_BYTES_MAX`.
    """
    parts = []
    for entry in entries:
        if len(entry) > ENTRY_BYTES_MAX:
            raise ValueError(f"an entry of {len(entry)} bytes")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def decode_entries(tile: Tile, data: bytes) -> list[bytes]:
    """The entries in a bundle: exactly as many as *tile* is wide, and nothing after them.

    Raises:
        LogError: ``bundle_malformed``.
    """
    if len(data) > tile.bytes_max:
        raise LogError("bundle_malformed", f"{tile.path}: {len(data)} bytes")
    entries = list(_entries(tile, data))
    if len(entries) != tile.width:
        raise LogError("bundle_malformed", f"{tile.path}: {len(entries)} entries")
    return entries


def _entries(tile: Tile, data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if len(data) < max(end, at + 2):
            raise LogError("bundle_malformed", f"{tile.path}: ends within an entry")
        yield data[at + 2 : end]
        at = end


def narrowed(tile: Tile, wider: Tile, data: bytes) -> bytes:
    """What *tile* held before it grew into *wider*, whose content is *data*.

    Raises:
        LogError: ``tile_length``, ``bundle_malformed``.
    """
    if tile.level == ENTRIES:
        return encode_entries(decode_entries(wider, data)[: tile.width])
    return b"".join(decode_hashes(wider, data)[: tile.width])
