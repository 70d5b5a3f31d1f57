"""Tiles and the checkpoint as files in a directory, as a web server would serve them.

    DIRECTORY/checkpoint              the signed note
    DIRECTORY/tile/0/x001/234         a full tile; .p/W is one of W hashes
    DIRECTORY/tile/entries/x001/234   the entries under it
    DIRECTORY/lock                    held by the one who writes
    DIRECTORY/new/                    files that are not in their place yet; nothing in it counts

A file is whole or absent: it is written and synced in ``new``, and then renamed.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tccp.errors import LogError, StoreError
from tccp.transparency.note import NOTE_BYTES_MAX
from tccp.transparency.tile import WIDTH_MAX, Tile, narrowed

SYNCS_AT_ONCE = 16

_REASONS = {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EROFS: "read_only", errno.EACCES: "read_only"}


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(_REASONS.get(error.errno or 0, "io_error"), f"the log: {error}") from error


class TileDirectory:
    """The files of one log. Reading needs no lock: what is in its place does not change.

    Every method raises `StoreError` when the disk fails.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._new = directory / "new"
        self._lock: int | None = None
        self._pool: ThreadPoolExecutor | None = None  # its threads are for waiting
        self._durable = {directory}  # folders that are on the disk for certain

    # ---- reading

    def read_tile(self, tile: Tile) -> bytes:
        """The content of *tile*; when it has grown since, what it was before.

        Raises:
            StoreError: ``tile_missing``.
            LogError: ``tile_length``, ``bundle_malformed``: the file is longer than the tile can be, or the full tile
                from which it is to be cut is none.
        """
        data = self._read(tile.path, tile.bytes_max)
        if data is not None:
            return data
        full = replace(tile, width=WIDTH_MAX)
        data = self._read(full.path, full.bytes_max) if full != tile else None
        if data is None:
            raise StoreError("tile_missing", f"the log: {tile.path}")
        return narrowed(tile, full, data)

    def read_checkpoint(self) -> bytes | None:
        """The signed note of the last checkpoint, or None when there never was one."""
        return self._read("checkpoint", NOTE_BYTES_MAX)

    @_disk_errors()
    def _read(self, path: str, bytes_max: int) -> bytes | None:
        try:
            with (self.directory / path).open("rb") as file:
                data = file.read(bytes_max + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(data) > bytes_max:
            raise LogError("tile_length", f"{path}: more than {bytes_max} bytes")
        return data

    # ---- writing

    @_disk_errors()
    def lock(self) -> None:
        """Become the one who writes, and remove what an interrupted one left in ``new``.

        Raises:
            StoreError: ``locked``: somebody else is.
        """
        missing = [folder for folder in (self.directory, *self.directory.parents) if not folder.is_dir()]
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for folder in missing or [self.directory]:
            _sync_folder(folder.parent)
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreError("locked", f"another program writes the log in {self.directory}") from None
        self._lock = lock
        self._pool = ThreadPoolExecutor(SYNCS_AT_ONCE, "tccp-log-sync")
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(mode=0o700)

    def unlock(self) -> None:
        """Let somebody else write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @_disk_errors()
    def write_tiles(self, tiles: Mapping[Tile, bytes]) -> None:
        """Put tiles in their places; all of them are durable when it returns."""
        self._write({tile.path: data for tile, data in tiles.items()})

    @_disk_errors()
    def write_checkpoint(self, note: bytes) -> None:
        """Replace the checkpoint, durably."""
        self._write({"checkpoint": note})

    def _write(self, files: Mapping[str, bytes]) -> None:
        self._at_once(self._write_new, [(self._new / str(number), data) for number, data in enumerate(files.values())])
        made: set[Path] = set()
        changed: set[Path] = set()
        for number, path in enumerate(files):
            target = self.directory / path
            self._make_folder(target.parent, made)
            (self._new / str(number)).replace(target)
            changed.add(target.parent)
        changed |= {folder.parent for folder in made}
        self._at_once(_sync_folder, [(folder,) for folder in changed])
        self._durable |= made

    def _at_once(self, work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Do *work* with each of *arguments*; all of it has ended when this returns or raises.

        A disk takes as long for many syncs that wait together as for one: eight times faster than after each other.
        """
        if len(arguments) == 1:
            work(*arguments[0])
            return
        assert self._pool is not None, "only the one who writes"
        jobs = [self._pool.submit(work, *each) for each in arguments]
        wait(jobs)
        for job in jobs:
            job.result()

    @staticmethod
    def _write_new(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _make_folder(self, folder: Path, made: set[Path]) -> None:
        """Make *folder* and those above it. One that is there counts as made when we have not synced it ourselves: who
        made it may have been killed before that.
        """
        if folder in self._durable or folder in made:
            return
        self._make_folder(folder.parent, made)
        folder.mkdir(mode=0o755, exist_ok=True)
        made.add(folder)

    def remove_partials(self, tiles: Iterable[Tile]) -> None:
        """Remove what full tiles were before; nothing depends on its success."""
        for tile in tiles:
            folder = self.directory / f"{tile.path}.p"
            self._durable.discard(folder)
            with suppress(OSError):
                shutil.rmtree(folder)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
