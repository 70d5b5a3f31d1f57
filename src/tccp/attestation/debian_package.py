"""The files in a Debian package, hashed: what a host may measure of it once it is installed.

The md5sums that packages and installed systems carry say nothing that could be relied on, so the contents are hashed.

Source: deb(5), deb-split is not read; usrmerge: since Debian 12 ``/bin``, ``/sbin`` and ``/lib*`` are in ``/usr``.
"""

import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, Self, cast

from tccp.errors import ConfigError

MAGIC = b"!<arch>\n"
HEADER_BYTES = 60
BLOCK_BYTES = 1 << 20
MEMBERS_MAX = 16
FILES_MAX = 1_000_000
NAME_BYTES_MAX = 1 << 20  # of what stands before a file about it: no path is longer than 4096 bytes
_ABOUT_A_FILE = frozenset(
    {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
)
_MERGED = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")


def package_digests(package: BinaryIO, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The path and SHA-256 of each regular file, under each path that it can be measured by.

    Args:
        package: The .deb file, open at its beginning.
        name: What to call it in errors.

    Raises:
        ConfigError: ``bad_package``: it is none, or compressed in a way that this Python does not read.
    """
    member = _data_member(package, name)
    try:
        yield from _files(member, name)
        if not member.is_complete():
            raise ConfigError("bad_package", f"{name}: it ends too early")
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as problem:
        hint = "Packages compressed with zstd are not read: unpack and hash them."
        raise ConfigError("bad_package", f"{name}: {problem}", hint=hint) from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as problem:
        # What tarfile makes of a damaged archive when it reads a stream.
        raise ConfigError("bad_package", f"{name}: damaged: {problem}") from None


def _files(archive: "_Member", name: str) -> Iterator[tuple[bytes, bytes]]:
    digests: dict[str, bytes] = {}
    with tarfile.open(fileobj=cast(BinaryIO, archive), mode="r|*", tarinfo=_BoundedHeader) as tar:
        for count, member in enumerate(tar):
            if count == FILES_MAX:
                raise ConfigError("bad_package", f"{name}: more than {FILES_MAX} files")
            path = member.name.removeprefix("./").lstrip("/")
            if member.islnk():
                linked = digests.get(member.linkname.removeprefix("./").lstrip("/"))
                if linked is None:
                    raise ConfigError("bad_package", f"{name}: {path} is a link to nothing")
                digest = linked
            elif member.isreg():
                content = tar.extractfile(member)
                assert content is not None
                digest = _hash(content)
            else:
                continue
            digests[path] = digest
            for known in _paths(path):
                yield known.encode("utf-8", "surrogateescape"), digest


class _BoundedHeader(tarfile.TarInfo):
    """The head of a file; tarfile would read whatever stands before it about the file into memory whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile's, and ReadError where that is too long."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _ABOUT_A_FILE and header.size > NAME_BYTES_MAX:
            raise tarfile.ReadError(f"a name of {header.size} bytes")
        return header


class _Member(io.RawIOBase):
    """One member of an ar archive, read from where the archive stands."""

    def __init__(self, archive: BinaryIO, size: int) -> None:
        self._archive = archive
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes, and no more than the member has."""
        wanted = self._left if size < 0 else min(size, self._left)
        block = self._archive.read(wanted)
        self._left -= len(block)
        return block

    def is_complete(self) -> bool:
        """Whether the member has as many bytes as it says; reads the rest."""
        while self._left and self.read(BLOCK_BYTES):
            pass
        return self._left == 0


def _paths(path: str) -> tuple[str, ...]:
    merged = (f"/usr/{path}",) if path.startswith(_MERGED) else ()
    return (f"/{path}", *merged)


def _hash(content: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while block := content.read(BLOCK_BYTES):
        digest.update(block)
    return digest.digest()


def _data_member(package: BinaryIO, name: str) -> _Member:
    """The archive of the package's files."""
    if package.read(len(MAGIC)) != MAGIC:
        raise ConfigError("bad_package", f"{name}: no Debian package")
    for _ in range(MEMBERS_MAX):
        header = package.read(HEADER_BYTES)
        size = header[48:58].strip()
        if len(header) != HEADER_BYTES or header[58:] != b"`\n" or not size.isdigit():
            break
        if header.startswith(b"data.tar"):
            return _Member(package, int(size))
        package.seek(int(size) + int(size) % 2, 1)
    raise ConfigError("bad_package", f"{name}: a package without files")
