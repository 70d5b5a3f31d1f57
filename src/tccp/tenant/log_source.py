"""Where a log is read from: an HTTP server, or a directory. Neither need be believed.

What counts is the signature on the checkpoint, and that tiles and entries lead to its root; so TLS keeps strangers from
listening here, and proves nothing.
"""

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tccp.errors import ConfigError, HostError, LogError
from tccp.merkle import leaf_hash
from tccp.transparency.checkpoint import Checkpoint
from tccp.transparency.note import NOTE_BYTES_MAX
from tccp.transparency.tile import ENTRIES, WIDTH_MAX, Tile, decode_entries, narrowed, tile_at
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.tree_edge import TreeEdge
from tccp.transport.tls import tenant_context

TIMEOUT_S = 30.0  # of silence
FILE_S = 300.0  # of one file as a whole
READ_BYTES = 1 << 16


class LogSource(Protocol):
    """Gives a log's files."""

    def read_checkpoint(self) -> bytes | None:
        """The signed note, or None when there is none."""

    def read_tile(self, tile: Tile) -> bytes:
        """A tile, or a bundle of entries."""


@contextmanager
def open_source(place: str) -> Iterator[LogSource]:
    """The log at *place*: ``https://...``, ``http://...``, or a directory.

    Raises:
        ConfigError: ``bad_log``: it is neither.
        HostError: It cannot be reached or read.
    """
    if place.startswith(("http://", "https://")):
        source = HttpSource(place)
        try:
            yield source
        finally:
            source.close()
    elif Path(place).is_dir():
        yield TileDirectory(Path(place))
    else:
        raise ConfigError("bad_log", f"{place}: no URL, and no directory")


class HttpSource:
    """A log that a web server serves, over one connection that is kept.

    Args:
        url: The prefix; the log's files are below it. The coordinator may have said it.

    Raises:
        ConfigError: ``bad_log``: it is none.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            if not host:
                raise ConfigError("bad_log", f"{url}: no host in it")
            self._connection: http.client.HTTPConnection
            if parts.scheme == "https":
                context: ssl.SSLContext = tenant_context(None)
                self._connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        except (ValueError, http.client.InvalidURL) as problem:
            raise ConfigError("bad_log", f"{url}: {problem}") from None
        self._url, self._prefix = url, parts.path.rstrip("/")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def read_checkpoint(self) -> bytes | None:
        """The signed note, or None when there is none.

        Raises:
            HostError: ``unreachable``.
            LogError: ``too_long``.
        """
        return self._get("checkpoint", NOTE_BYTES_MAX)

    def read_tile(self, tile: Tile) -> bytes:
        """A tile or bundle; where a partial one is not there any more, what the full one held then.

        Raises:
            HostError: ``unreachable``.
            LogError: ``tile_missing``, ``too_long``, ``tile_length``, ``bundle_malformed``.
        """
        content = self._get(tile.path, tile.bytes_max)
        if content is not None:
            return content
        full = Tile(tile.level, tile.index, WIDTH_MAX)
        content = self._get(full.path, full.bytes_max) if full != tile else None
        if content is None:
            raise LogError("tile_missing", f"{self._url}: {tile.path}")
        return narrowed(tile, full, content)

    def _get(self, path: str, bytes_max: int) -> bytes | None:
        for attempt in (1, 2):  # a server may close a connection that was kept
            try:
                self._connection.request("GET", f"{self._prefix}/{path}")
                response = self._connection.getresponse()
                content = _read(response, bytes_max + 1)
                surplus = len(content) > bytes_max
                if surplus or response.status != 200:
                    self._connection.close()
            except (OSError, UnicodeError, http.client.HTTPException) as problem:
                self._connection.close()
                if attempt == 2:
                    raise HostError("unreachable", f"{self._url}: {problem or type(problem).__name__}") from None
                continue
            if response.status == 404:
                return None
            if response.status != 200:
                raise HostError("unreachable", f"{self._url}: {path}: status {response.status}")
            if surplus:
                raise LogError("too_long", f"{self._url}: {path}: more than {bytes_max} bytes")
            return content
        raise AssertionError("two attempts end in one way or the other")


def _read(response: http.client.HTTPResponse, bytes_max: int) -> bytes:
    """The body, or its first *bytes_max*; a server that drips is as good as gone."""
    deadline, parts, length = time.monotonic() + FILE_S, [], 0
    while length < bytes_max and (part := response.read1(min(READ_BYTES, bytes_max - length))):
        parts.append(part)
        length += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done after {FILE_S:.0f} s")
    if response.length:
        response.close()
        if length < bytes_max:
            raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def read_entries(source: LogSource, size: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """The entries of a log of *size*, from *first* on, each with its index. They are claims until their root is seen.

    Raises:
        LogError: ``bundle_malformed``; as the source.
        HostError: as the source.
    """
    for number in range(first // WIDTH_MAX, -(-size // WIDTH_MAX)):
        tile = tile_at(ENTRIES, number, size)
        for offset, entry in enumerate(decode_entries(tile, source.read_tile(tile))):
            index = number * WIDTH_MAX + offset
            if index >= first:
                yield index, entry


class Audit:
    """A tree that is made anew from all entries, to be compared with heads that were signed."""

    def __init__(self) -> None:
        self._edge = TreeEdge()

    def add(self, entry: bytes) -> None:
        """The next entry."""
        self._edge.extend([leaf_hash(entry)])

    def compare(self, head: Checkpoint) -> None:
        """Check that the entries up to here are those under *head*.

        Raises:
            LogError: ``root_differs``.
        """
        if (self._edge.size, self._edge.root()) != (head.size, head.root):
            raise LogError("root_differs", f"the first {self._edge.size} entries lead to another root than was signed")
