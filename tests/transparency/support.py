"""A log in memory, made with nothing of what is tested: recursion straight from RFC 6962, and keys."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from nacl.signing import SigningKey

from tccp.merkle import leaf_hash
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint, verify_checkpoint
from tccp.transparency.note import NoteSigner, SignatureType, sign_note
from tccp.transparency.tile import Tile
from tccp.transparency.tree_edge import TreeEdge

ORIGIN = "example.org/log"
VECTORS = Path(__file__).parents[1] / "vectors" / "transparency"


def signer(name: str = ORIGIN, kind: SignatureType = SignatureType.ED25519) -> NoteSigner:
    """The key whose seed is the hash of its name."""
    return NoteSigner(name, SigningKey(hashlib.sha256(name.encode()).digest()), kind)


def witness(name: str = "witness.example/w1") -> NoteSigner:
    return signer(name, SignatureType.COSIGNATURE)


def entries_of(count: int, first: int = 0) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(first, first + count)]


def naive_root(entries: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1, to the letter."""
    if len(entries) < 2:
        return hashlib.sha256(b"\0" + entries[0]).digest() if entries else hashlib.sha256().digest()
    middle = 1
    while middle * 2 < len(entries):
        middle *= 2
    return hashlib.sha256(b"\1" + naive_root(entries[:middle]) + naive_root(entries[middle:])).digest()


def naive_path(index: int, entries: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, to the letter."""
    if len(entries) == 1:
        return []
    middle = 1
    while middle * 2 < len(entries):
        middle *= 2
    if index < middle:
        return [*naive_path(index, entries[:middle]), naive_root(entries[middle:])]
    return [*naive_path(index - middle, entries[middle:]), naive_root(entries[:middle])]


def naive_consistency(old: int, entries: Sequence[bytes], *, known: bool = True) -> list[bytes]:
    """RFC 6962, 2.1.2, to the letter."""
    if old == len(entries):
        return [] if known else [naive_root(entries)]
    middle = 1
    while middle * 2 < len(entries):
        middle *= 2
    if old <= middle:
        return [*naive_consistency(old, entries[:middle], known=known), naive_root(entries[middle:])]
    return [*naive_consistency(old - middle, entries[middle:], known=False), naive_root(entries[:middle])]


class MemoryTiles(dict[Tile, bytes]):
    """All tiles that a log ever had."""

    def __init__(self, entries: Sequence[bytes], sizes: Sequence[int] = ()) -> None:
        super().__init__()
        self.edge = TreeEdge()
        for size in sorted({*sizes, len(entries)}):
            self |= self.edge.extend(map(leaf_hash, entries[self.edge.size : size]))
            self |= self.edge.partial_tiles()

    def read(self, tile: Tile) -> bytes:
        return self[tile]


def signed_checkpoint(size: int, root: bytes, *others: NoteSigner) -> bytes:
    """A checkpoint of a log that signs whatever it likes."""
    return sign_note(Checkpoint(ORIGIN, size, root).text(), signer(), *others).encode()


def verified(size: int, root: bytes) -> VerifiedCheckpoint:
    return verify_checkpoint(signed_checkpoint(size, root), origin=ORIGIN, log_key=signer().key)
