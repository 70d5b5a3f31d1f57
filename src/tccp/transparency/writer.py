"""The writer of a log: entries in, durable tiles and a signed checkpoint out.

One call of `append` is one commit; whoever has many who wait hands over their entries together. Its order is what makes
a crash harmless: bundles and tiles are durable before a checkpoint speaks of them, and the checkpoint's replacement is
the commit. What lies beyond the checkpoint after a crash was never acknowledged; the feeder, which knows that from
`LogWriter.size`, gives it again, and it is written over. Tiles of hashes that are lost or damaged are made anew from
the bundles when the log is opened.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tccp.errors import LogError, StoreError
from tccp.merkle import leaf_hash
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint, verify_checkpoint
from tccp.transparency.note import NoteSigner, sign_note
from tccp.transparency.proof import TileHashes
from tccp.transparency.tile import (
    ENTRIES,
    ENTRY_BYTES_MAX,
    WIDTH_MAX,
    Tile,
    decode_entries,
    decode_hashes,
    encode_entries,
    tile_at,
)
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.tree_edge import TreeEdge, edge_of_root

REBUILT_AT_ONCE = 64


@contextmanager
def _our_own_files() -> Iterator[None]:
    """What would be a liar's log is a damaged one when it is ours."""
    try:
        yield
    except LogError as error:
        raise StoreError("damaged", f"the log: {error}") from error


class LogWriter:
    """The one who appends to a log in a directory.

    `create` and `open` make one. When an `append` fails before its checkpoint is written, nothing has changed and it
    may be tried again; when it fails there, the writer is closed, and only opening the log again tells what is in it.
    No method may be called from two threads at once.

    Args:
        signer: The log's key; its name is the log's origin.
    """

    def __init__(self, files: TileDirectory, signer: NoteSigner) -> None:
        self.files = files
        self._signer = signer
        self._is_open = True
        self._edge = TreeEdge()
        self._bundle: list[bytes] = []  # the entries of the last bundle, while it is not full
        self.head: VerifiedCheckpoint

    @property
    def size(self) -> int:
        """How many entries are in the log, durably; the index of the next one."""
        return self._edge.size

    @property
    def is_open(self) -> bool:
        """Whether `append` may be tried (again)."""
        return self._is_open

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._signer.key.name

    # ---- opening

    @classmethod
    def create(cls, directory: Path, signer: NoteSigner) -> Self:
        """Begin an empty log. It is an own step so that a log whose checkpoint got lost is never begun anew.

        Raises:
            StoreError: ``log_exists``, ``locked``, ``disk_full``, ...
        """
        files = TileDirectory(directory)
        files.lock()
        try:
            writer = cls(files, signer)
            writer._begin()
        except BaseException:
            files.unlock()
            raise
        return writer

    @classmethod
    def open(cls, directory: Path, signer: NoteSigner, *, signed: Checkpoint | None) -> Self:
        """Go on with a log, after repairing its tiles if need be.

        Args:
            signed: The last checkpoint that is known elsewhere to have been signed (in the coordinator's database), so
                that a log restored from an old copy is found; None when nobody else knows.

        Raises:
            StoreError: ``no_checkpoint``; ``rolled_back``, ``forked``: not the log that *signed* was signed over;
                ``damaged``: entries are missing, or not those that were signed; ``locked``, ``disk_full``, ...
        """
        files = TileDirectory(directory)
        files.lock()
        try:
            writer = cls(files, signer)
            writer._load(signed)
        except BaseException:
            files.unlock()
            raise
        return writer

    def close(self) -> None:
        """Let somebody else write. What was acknowledged is durable anyway."""
        self._is_open = False
        self.files.unlock()

    def __enter__(self) -> Self:
        """Closed when it is left."""
        return self

    def __exit__(self, *_error: object) -> None:
        """See `close`."""
        self.close()

    def _begin(self) -> None:
        if self.files.read_checkpoint() is not None or (self.files.directory / "tile").exists():
            raise StoreError("log_exists", str(self.files.directory))
        self._publish()

    @_our_own_files()
    def _load(self, signed: Checkpoint | None) -> None:
        note = self.files.read_checkpoint()
        if note is None:
            raise StoreError("no_checkpoint", str(self.files.directory))
        self.head = verify_checkpoint(note, origin=self.origin, log_key=self._signer.key)
        self._bundle = self._read_last_bundle()
        self._edge = self._load_edge()
        if signed is not None:
            self._check_continues(signed)

    def _read_last_bundle(self) -> list[bytes]:
        size = self.head.checkpoint.size
        if size % WIDTH_MAX == 0:
            return []
        tile = tile_at(ENTRIES, size // WIDTH_MAX, size)
        return decode_entries(tile, self.files.read_tile(tile))

    def _load_edge(self) -> TreeEdge:
        head = self.head.checkpoint
        try:
            edge = edge_of_root(self.files.read_tile, head.size, head.root)
        except (LogError, StoreError):
            return self._rebuild()
        if [leaf_hash(entry) for entry in self._bundle] != edge.hashes(0):
            raise LogError("root_differs", "the last entries")
        return edge

    def _rebuild(self) -> TreeEdge:
        """Make all tiles of hashes anew; not one is written before the entries have proved to be those signed."""
        edge = TreeEdge()
        for hashes in self._leaf_hashes():
            edge.extend(hashes)
        if edge.root() != self.head.checkpoint.root:
            raise LogError("root_differs", "the entries")
        edge, tiles = TreeEdge(), dict[Tile, bytes]()
        for hashes in self._leaf_hashes():
            tiles |= edge.extend(hashes)
            if len(tiles) >= REBUILT_AT_ONCE:
                self.files.write_tiles(tiles)
                tiles = {}
        self.files.write_tiles(tiles | edge.partial_tiles())
        return edge

    def _leaf_hashes(self) -> Iterator[list[bytes]]:
        size = self.head.checkpoint.size
        for index in range(-(-size // WIDTH_MAX)):
            tile = tile_at(ENTRIES, index, size)
            yield [leaf_hash(entry) for entry in decode_entries(tile, self.files.read_tile(tile))]

    def _check_continues(self, signed: Checkpoint) -> None:
        if signed.size > self.size:
            raise StoreError("rolled_back", f"the log has {self.size} entries, {signed.size} were signed")
        root = TileHashes(self.files.read_tile, self.size).range_hash(0, signed.size)
        if (signed.origin, signed.root) != (self.origin, root):
            raise StoreError("forked", f"another log was signed when it had {signed.size} entries")

    # ---- appending

    def append(self, first: int, entries: Sequence[bytes]) -> VerifiedCheckpoint:
        """Append entries and sign the new checkpoint; durable when it returns.

        Entries that are in the log already are compared and not appended again, so that a feeder may repeat what it
        does not know to have arrived.

        Args:
            first: The index that the first of *entries* has or shall have in the log.

        Raises:
            ValueError: There would be a gap before *first*, or an entry is longer than 65,535 bytes.
            StoreError: ``disk_full``, ``io_error``, ...; ``closed``; ``damaged``; ``entry_differs``: the log has
                another entry there.
        """
        if not self._is_open:
            raise StoreError("closed", "the log")
        if not 0 <= first <= self.size or any(len(entry) > ENTRY_BYTES_MAX for entry in entries):
            raise ValueError(f"entry {first} for a log of {self.size}, or one longer than {ENTRY_BYTES_MAX} bytes")
        known = min(self.size - first, len(entries))
        self._check_known(first, entries[:known])
        if known < len(entries):
            self._commit(entries[known:])
        return self.head

    @_our_own_files()
    def _check_known(self, first: int, entries: Sequence[bytes]) -> None:
        hashes: list[bytes] = []
        for index in range(first // WIDTH_MAX, -(-(first + len(entries)) // WIDTH_MAX)):
            tile = tile_at(0, index, self.size)
            hashes += decode_hashes(tile, self.files.read_tile(tile))
        skipped = first % WIDTH_MAX
        for number, entry in enumerate(entries):
            if leaf_hash(entry) != hashes[skipped + number]:
                raise StoreError("entry_differs", f"entry {first + number} is in the log, and is another one")

    def _commit(self, entries: Sequence[bytes]) -> None:
        edge = self._edge.copy()
        tiles = edge.extend(map(leaf_hash, entries))
        full = list(tiles)
        tiles |= edge.partial_tiles()
        bundles = [*self._bundle, *entries]
        for start in range(0, len(bundles), WIDTH_MAX):
            bundle = bundles[start : start + WIDTH_MAX]
            tile = Tile(ENTRIES, self.size // WIDTH_MAX + start // WIDTH_MAX, len(bundle))
            tiles[tile] = encode_entries(bundle)
            if tile.width == WIDTH_MAX:
                full.append(tile)
        self.files.write_tiles(tiles)
        self._edge, before = edge, self._edge
        try:
            self._publish()
        except BaseException:
            self._edge = before
            raise
        self._bundle = bundles[len(bundles) - edge.size % WIDTH_MAX :]
        self.files.remove_partials(full)

    def _publish(self) -> None:
        """Sign and replace the checkpoint. Whether a replacement that failed happened, only the disk knows."""
        checkpoint = Checkpoint(self.origin, self._edge.size, self._edge.root())
        note = sign_note(checkpoint.text(), self._signer)
        try:
            self.files.write_checkpoint(note.encode())
        except BaseException:
            self.close()
            raise
        self.head = VerifiedCheckpoint(checkpoint, note, {})
