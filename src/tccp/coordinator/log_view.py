"""The published log as it is read again: its newest checkpoint, those that witnesses cosigned, its tiles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from tccp.coordinator.cosignatures import Cosignatures
from tccp.errors import StoreError
from tccp.transparency.tile import Tile
from tccp.transparency.tile_directory import TileDirectory

THREADS_MAX = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogHeads:
    """Signed notes: the newest checkpoint, and of each witness the newest that it cosigned."""

    newest: bytes
    witnessed: tuple[bytes, ...]


class LogView:
    """Reads the log's directory, off the loop.

    Args:
        files: What `tccp.transparency.writer.LogWriter` writes.
        cosignatures: What witnesses have cosigned of it.
    """

    def __init__(self, files: TileDirectory, cosignatures: Cosignatures) -> None:
        self._tiles = files
        self.cosignatures = cosignatures
        self._limiter = trio.CapacityLimiter(THREADS_MAX)

    async def heads(self) -> LogHeads:
        """What the log signed last.

        Raises:
            StoreError: ``log_empty``: it has signed nothing yet; or the disk failed.
        """
        newest = await self._read(self._tiles.read_checkpoint)
        if newest is None:
            raise StoreError("log_empty", f"{self._tiles.directory}: no checkpoint yet")
        return LogHeads(self.cosignatures.with_cosignatures(newest), self.cosignatures.notes())

    async def read_tile(self, tile: Tile) -> bytes:
        """The content of a tile.

        Raises:
            StoreError: ``tile_missing``, or the disk failed.
            LogError: What is there is no such tile.
        """
        return await self._read(lambda: self._tiles.read_tile(tile))

    async def _read(self, read: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(read, limiter=self._limiter)
