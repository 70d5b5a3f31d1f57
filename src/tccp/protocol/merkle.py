"""RFC 6962 Merkle trees over a short list of leaves: root and inclusion path.

A TPM makes a few quotes a second, a coordinator meets thousands of nodes at once after a restart: one quote over a
root answers all who wait, and each gets the path from its own leaf.
"""

import hashlib
from collections.abc import Sequence


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962, 2.1."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, 2.1."""
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(count: int) -> int:
    """The largest power of two below *count*."""
    return 1 << (count - 1).bit_length() - 1


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
