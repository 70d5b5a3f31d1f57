"""The right edge of a tree: all that is needed to append to it and to know its root.

Of each level the hashes of the tile that is not full yet; what is left of it is settled for ever.

    level 1    [h h h]                  each over 256 leaves
    level 0            [h h h h h]      each over one
"""

from collections.abc import Callable, Iterable

from tccp.errors import LogError
from tccp.merkle import full_root, full_subtrees, root_of_peaks
from tccp.transparency.tile import WIDTH_MAX, Tile, decode_hashes

ReadTile = Callable[[Tile], bytes]


class TreeEdge:
    """A tree that grows; see the module's drawing."""

    def __init__(self, size: int = 0, levels: Iterable[list[bytes]] = ()) -> None:
        self.size = size
        self._levels = [list(level) for level in levels]

    @classmethod
    def load(cls, read_tile: ReadTile, size: int) -> "TreeEdge":
        """The edge of the tree of *size* leaves whose tiles *read_tile* gives. The caller compares the root.

        Raises:
            LogError: ``tile_length``.
        """
        levels = []
        height = 0
        while size >> height:
            index, width = divmod(size >> height, WIDTH_MAX)
            tile = Tile(height // 8, index, width) if width else None
            levels.append(decode_hashes(tile, read_tile(tile)) if tile else [])
            height += 8
        return cls(size, levels)

    def copy(self) -> "TreeEdge":
        """Another edge that grows by itself."""
        return TreeEdge(self.size, self._levels)

    def root(self) -> bytes:
        """The root of the tree. RFC 6962, 2.1."""
        peaks = []
        for level in reversed(self._levels):
            peaks += [full_root(level[start : start + (1 << height)]) for start, height in full_subtrees(0, len(level))]
        return root_of_peaks(peaks)

    def extend(self, hashes: Iterable[bytes]) -> dict[Tile, bytes]:
        """Append leaves by their hashes.

        Returns:
            The tiles that became full, and their content.
        """
        filled: dict[Tile, bytes] = {}
        for digest in hashes:
            self._push(0, digest, filled)
        return filled

    def _push(self, level: int, digest: bytes, filled: dict[Tile, bytes]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        if level == 0:
            self.size += 1
        hashes = self._levels[level]
        hashes.append(digest)
        if len(hashes) == WIDTH_MAX:
            filled[Tile(level, (self.size >> 8 * (level + 1)) - 1)] = b"".join(hashes)
            self._levels[level] = []
            self._push(level + 1, full_root(hashes), filled)

    def hashes(self, level: int) -> list[bytes]:
        """What the tile of *level* that is not full yet holds."""
        return list(self._levels[level]) if level < len(self._levels) else []

    def partial_tiles(self) -> dict[Tile, bytes]:
        """The tiles that are not full, and their content."""
        return {
            Tile(level, self.size >> 8 * (level + 1), len(hashes)): b"".join(hashes)
            for level, hashes in enumerate(self._levels)
            if hashes
        }


def edge_of_root(read_tile: ReadTile, size: int, root: bytes) -> TreeEdge:
    """The edge of a tree that must have this root.

    Raises:
        LogError: ``tile_length``; ``root_differs``: these are tiles of another tree.
    """
    edge = TreeEdge.load(read_tile, size)
    if edge.root() != root:
        raise LogError("root_differs", f"the tiles' tree of {size}")
    return edge
