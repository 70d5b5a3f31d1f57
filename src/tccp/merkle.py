"""RFC 6962 Merkle trees: roots, paths from a leaf to the root, and proofs that one tree continues another.

Two use them. A TPM makes a few quotes a second, and a coordinator meets thousands of nodes at once after a restart: one
quote over a root answers all who wait, and each gets the path from its own leaf. The transparency log keeps its tree in
tiles and proves from them (`tccp.transparency`): a proof is a list of ranges of leaves, named here, hashed there.

    ranges of the path of leaf 2 of 7         0 1 2 3 4 5 6
                                                    |         [3, 4)
                                              ^^^             [0, 2)
                                                      ^^^^^   [4, 7)
"""

import hashlib
from collections.abc import Iterator, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962, 2.1."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, 2.1."""
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(count: int) -> int:
    """The largest power of two below *count*."""
    return 1 << (count - 1).bit_length() - 1


# ---- making


def merkle_tree(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root over one or more leaves, and for each leaf its path: the hashes that lead to the root, lowest first.

    RFC 6962, 2.1 and 2.1.1.
    """
    if len(leaves) == 1:
        return leaf_hash(leaves[0]), [[]]
    middle = _split(len(leaves))
    left, left_paths = merkle_tree(leaves[:middle])
    right, right_paths = merkle_tree(leaves[middle:])
    for path in left_paths:
        path.append(right)
    for path in right_paths:
        path.append(left)
    return node_hash(left, right), left_paths + right_paths


def full_root(hashes: Sequence[bytes]) -> bytes:
    """The root over the nodes of one height; their number is a power of two."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """The root over full subtrees, the largest and first one first: what `full_subtrees` names."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def full_subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The full subtrees that make up a subtree: the start of each, and its height; the largest first.

    Args:
        start: Where the subtree begins: 0, or a multiple of a power of two not below ``end - start``.
        end: The leaf after its last one.
    """
    while start < end:
        height = (end - start).bit_length() - 1
        yield start, height
        start += 1 << height


def path_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose hashes are the path of leaf *index* in a tree of *size*, lowest first.

    RFC 6962, 2.1.1.
    """
    ranges = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose hashes prove that the tree of *new_size* continues the one of *old_size*.

    RFC 6962, 2.1.2. A tree proves nothing about an empty one or itself: no ranges.
    """
    if old_size in {0, new_size}:
        return []
    ranges = []
    start, end = 0, new_size
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:  # otherwise it is the old tree as a whole, whose root the verifier has
        ranges.append((start, end))
    return ranges[::-1]


# ---- verifying


def root_from_path(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """The root that *path* leads to from *leaf*, or None when no tree of *count* leaves has such a path.

    RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < count:
        return None
    position, last, digest = index, count - 1, leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return None
        if position & 1 or position == last:
            digest = node_hash(sibling, digest)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            digest = node_hash(digest, sibling)
        position >>= 1
        last >>= 1
    return digest if last == 0 else None


def roots_from_consistency(
    old_size: int, new_size: int, old_root: bytes, path: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """The roots, old and new, that *path* leads to; None when it is no path between trees of these sizes.

    The caller compares both with those it knows. RFC 9162, 2.1.4.2, for sizes ``0 < old_size < new_size``.
    """
    if not 0 < old_size < new_size:
        return None
    hashes = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    if not hashes:
        return None
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return None
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        position >>= 1
        last >>= 1
    return (old, new) if last == 0 else None
