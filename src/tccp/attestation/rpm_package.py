"""The files of an RPM package by the digests in its header: what a host may measure of it once it is installed.

The header is what the package's signature is about and what rpm compares each file with when it unpacks it, so the
contents need not be read; whether the package is the distribution's own is for whoever fetched it to check (`rpm -K`).

Source: RPM, docs/manual/format_v4.md, format_header.md and tags.md.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from tccp.errors import ConfigError

LEAD_MAGIC, HEADER_MAGIC = b"\xed\xab\xee\xdb", b"\x8e\xad\xe8\x01"
LEAD_BYTES, ENTRY_BYTES = 96, 16
ENTRIES_MAX, DATA_BYTES_MAX, FILES_MAX = 4_096, 64 << 20, 1_000_000
INT16, INT32, STRINGS = 3, 4, 8
MODES, DIGESTS, DIRECTORY_OF, NAMES, DIRECTORIES, ALGORITHM = 1030, 1035, 1116, 1117, 1118, 5011
SHA256 = 8
REGULAR, KIND_OF_FILE = 0o100000, 0o170000


def rpm_digests(package: BinaryIO, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The path and SHA-256 of each regular file.

    Args:
        package: The .rpm file, open at its beginning.
        name: What to call it in errors.

    Raises:
        ConfigError: ``bad_package``: it is none, is damaged, or has digests of another kind than SHA-256.
    """
    if package.read(LEAD_BYTES)[:4] != LEAD_MAGIC:
        raise ConfigError("bad_package", f"{name}: no RPM package")
    signatures = _Header.read(package, name)
    package.read(-signatures.data_bytes % 8)
    header = _Header.read(package, name)
    try:
        yield from _files(header, name)
    except (IndexError, ValueError, struct.error) as problem:
        raise ConfigError("bad_package", f"{name}: damaged: {problem}") from None


def is_rpm(first: bytes) -> bool:
    """Whether a file that begins so is an RPM package."""
    return first.startswith(LEAD_MAGIC)


def _files(header: "_Header", name: str) -> Iterator[tuple[bytes, bytes]]:
    names, digests = header.strings(NAMES), header.strings(DIGESTS)
    directories, of = header.strings(DIRECTORIES), header.numbers(DIRECTORY_OF, INT32)
    modes = header.numbers(MODES, INT16)
    if not len(names) == len(digests) == len(of) == len(modes):
        raise ValueError("its lists of files have different lengths")
    if names and header.numbers(ALGORITHM, INT32) != (SHA256,):
        hint = "It was built for an old rpm: unpack it and hash its files with sha256sum."
        raise ConfigError("bad_package", f"{name}: its digests are not SHA-256", hint=hint)
    for base, digest, directory, mode in zip(names, digests, of, modes, strict=True):
        if mode & KIND_OF_FILE == REGULAR and digest:
            value = bytes.fromhex(digest.decode("ascii"))
            if len(value) != 32:
                raise ValueError(f"a digest of {len(value)} bytes")
            yield directories[directory] + base, value


class _Header:
    """One header of a package: an index of tags, and their data."""

    def __init__(self, index: bytes, data: bytes) -> None:
        entries = (struct.unpack_from(">4I", index, at) for at in range(0, len(index), ENTRY_BYTES))
        self._entries = {tag: (kind, offset, count) for tag, kind, offset, count in entries}
        self._data = data

    @classmethod
    def read(cls, package: BinaryIO, name: str) -> "_Header":
        """The header that comes next; raises `ConfigError`."""
        head = package.read(16)
        if len(head) != 16 or not head.startswith(HEADER_MAGIC):
            raise ConfigError("bad_package", f"{name}: no header where one is due")
        entries, data_bytes = struct.unpack_from(">2I", head, 8)
        if entries > ENTRIES_MAX or data_bytes > DATA_BYTES_MAX:
            raise ConfigError("bad_package", f"{name}: a header of {entries} entries and {data_bytes} bytes")
        index, data = package.read(entries * ENTRY_BYTES), package.read(data_bytes)
        if len(index) + len(data) != entries * ENTRY_BYTES + data_bytes:
            raise ConfigError("bad_package", f"{name}: it ends too early")
        return cls(index, data)

    @property
    def data_bytes(self) -> int:
        """The length of the data."""
        return len(self._data)

    def numbers(self, tag: int, kind: int) -> tuple[int, ...]:
        """The whole numbers under *tag*; none where there is no such tag."""
        found = self._find(tag, kind)
        if found is None:
            return ()
        offset, count = found
        return struct.unpack_from(f">{count}{'H' if kind == INT16 else 'I'}", self._data, offset)

    def strings(self, tag: int) -> list[bytes]:
        """The texts under *tag*; none where there is no such tag."""
        found = self._find(tag, STRINGS)
        if found is None:
            return []
        offset, count = found
        texts = []
        for _ in range(count):
            end = self._data.index(b"\0", offset)
            texts.append(self._data[offset:end])
            offset = end + 1
        return texts

    def _find(self, tag: int, kind: int) -> tuple[int, int] | None:
        entry = self._entries.get(tag)
        if entry is None:
            return None
        found, offset, count = entry
        if found != kind or count > FILES_MAX:
            raise ValueError(f"tag {tag} is not what it should be")
        return offset, count
