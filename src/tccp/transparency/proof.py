"""Proofs: made from tiles by whoever holds them, verified against a checkpoint by whoever asks. RFC 6962, 2.1.

Tiles may come from anybody: what a wrong tile leads to is a proof that does not verify.
"""

from collections.abc import Callable, Sequence

from tccp.errors import LogError
from tccp.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    consistency_ranges,
    full_root,
    full_subtrees,
    path_ranges,
    root_from_path,
    root_of_peaks,
    roots_from_consistency,
)
from tccp.transparency.tile import SIZE_MAX, WIDTH_MAX, Tile, decode_hashes, tile_at

PROOF_HASHES_MAX = (
    64  # a path is no longer than the tree is high, a consistency proof by one hash; 2**63 leaves at most
)


class TileHashes:
    """The hash over any subtree of a tree of *size* leaves, from its tiles; each tile is read and each subtree
    hashed once.

    Args:
        read_tile: Gives a tile's content, and raises what it likes when it cannot.
    """

    def __init__(self, read_tile: Callable[[Tile], bytes], size: int) -> None:
        self.size = size
        self._read_tile = read_tile
        self._tiles: dict[Tile, list[bytes]] = {}
        self._subtrees: dict[tuple[int, int], bytes] = {}

    def range_hash(self, start: int, end: int) -> bytes:
        """RFC 6962's MTH(D[start:end]), for ranges that stand in the tree as `path_ranges` names them, and for
        ``(0, n)``: the tree as it was when it had *n* leaves.

        Raises:
            LogError: ``tile_length``.
        """
        return root_of_peaks([self._subtree_hash(*subtree) for subtree in full_subtrees(start, end)])

    def _subtree_hash(self, start: int, height: int) -> bytes:
        found = self._subtrees.get((start, height))
        if found is None:
            found = self._subtrees[start, height] = self._hash_subtree(start, height)
        return found

    def _hash_subtree(self, start: int, height: int) -> bytes:
        level, height = divmod(height, 8)
        index, first = divmod(start >> 8 * level, WIDTH_MAX)
        tile = tile_at(level, index, self.size)
        if tile not in self._tiles:
            self._tiles[tile] = decode_hashes(tile, self._read_tile(tile))
        return full_root(self._tiles[tile][first : first + (1 << height)])


def prove_inclusion(hashes: TileHashes, index: int) -> list[bytes]:
    """The path of entry *index*, lowest first.

    Raises:
        LogError: ``not_in_tree``; ``tile_length``.
    """
    if not 0 <= index < hashes.size:
        raise LogError("not_in_tree", f"entry {index} of {hashes.size}")
    return [hashes.range_hash(*part) for part in path_ranges(index, hashes.size)]


def prove_consistency(hashes: TileHashes, old_size: int) -> list[bytes]:
    """The proof that the tree continues the one of *old_size* leaves.

    Raises:
        LogError: ``not_in_tree``; ``tile_length``.
    """
    if not 0 <= old_size <= hashes.size:
        raise LogError("not_in_tree", f"{old_size} of {hashes.size}")
    return [hashes.range_hash(*part) for part in consistency_ranges(old_size, hashes.size)]


def verify_inclusion(entry: bytes, index: int, *, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Check that *entry* is number *index* in the tree of *size* leaves with this root.

    Args:
        size: With *root*, of a verified checkpoint.

    Raises:
        LogError: ``not_in_tree``, ``proof_malformed``, ``inclusion``.
    """
    _check_form(size, path)
    if not 0 <= index < size:
        raise LogError("not_in_tree", f"entry {index} of {size}")
    if root_from_path(entry, index, size, path) != root:
        raise LogError("inclusion", f"entry {index} of {size}: the path leads to another root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the new tree begins with all entries of the old one, in their order.

    Args:
        old_size: With *old_root*, of a verified checkpoint, as *new_size* with *new_root*.

    Raises:
        LogError: ``rollback``: the new tree is smaller; ``fork``: another tree of the same size; ``proof_malformed``;
            ``inconsistent``.
    """
    _check_form(new_size, path)
    if not 0 <= old_size <= new_size:
        raise LogError("rollback", f"from {old_size} to {new_size}")
    if old_size == new_size and old_root != new_root:
        raise LogError("fork", f"two trees of {new_size}")
    if old_size in {0, new_size}:
        if path:
            raise LogError("proof_malformed", "nothing is to be proved")
        if 0 in {old_size, new_size} and old_root != EMPTY_ROOT:
            raise LogError("inconsistent", "an empty tree with entries")
        return
    if roots_from_consistency(old_size, new_size, old_root, path) != (old_root, new_root):
        raise LogError("inconsistent", f"from {old_size} to {new_size}")


def _check_form(size: int, path: Sequence[bytes]) -> None:
    if size > SIZE_MAX or len(path) > PROOF_HASHES_MAX or any(len(digest) != HASH_BYTES for digest in path):
        raise LogError("proof_malformed", f"{len(path)} hashes, a tree of {size}")
