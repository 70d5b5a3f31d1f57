"""The files in a Debian package, hashed: what a host may measure of it once it is installed.

The md5sums that packages and installed systems carry say nothing that could be relied on, so the contents are hashed.

Source: deb(5), deb-split is not read; usrmerge: since Debian 12 ``/bin``, ``/sbin`` and ``/lib*`` are in ``/usr``.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO

from tccp.errors import ConfigError

MAGIC = b"!<arch>\n"
HEADER_BYTES = 60
BLOCK_BYTES = 1 << 20
MEMBERS_MAX = 16
FILES_MAX = 1_000_000
_MERGED = ("bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/")


def package_digests(package: BinaryIO, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The path and SHA-256 of each regular file, under each path that it can be measured by.

    Args:
        package: The .deb file, open at its beginning.
        name: What to call it in errors.

    Raises:
        ConfigError: ``bad_package``: it is none, or compressed in a way that this Python does not read.
    """
    digests: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=_data_member(package, name), mode="r|*") as tar:
            for count, member in enumerate(tar):
                if count == FILES_MAX:
                    raise ConfigError("bad_package", f"{name}: more than {FILES_MAX} files")
                path = member.name.removeprefix("./").lstrip("/")
                if member.islnk():
                    digest = digests.get(member.linkname.removeprefix("./").lstrip("/"))
                    if digest is None:
                        raise ConfigError("bad_package", f"{name}: {path} is a link to nothing")
                elif member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    digest = _hash(content)
                else:
                    continue
                digests[path] = digest
                for known in _paths(path):
                    yield known.encode("utf-8", "surrogateescape"), digest
    except (tarfile.TarError, EOFError, OSError) as problem:
        raise ConfigError(
            "bad_package",
            f"{name}: {problem}",
            hint="Packages compressed with zstd must be unpacked and hashed by hand.",
        ) from None


def _paths(path: str) -> tuple[str, ...]:
    merged = (f"/usr/{path}",) if path.startswith(_MERGED) else ()
    return (f"/{path}", *merged)


def _hash(content: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while block := content.read(BLOCK_BYTES):
        digest.update(block)
    return digest.digest()


def _data_member(package: BinaryIO, name: str) -> BinaryIO:
    """The package, positioned at its data archive."""
    if package.read(len(MAGIC)) != MAGIC:
        raise ConfigError("bad_package", f"{name}: no Debian package")
    for _ in range(MEMBERS_MAX):
        header = package.read(HEADER_BYTES)
        if len(header) != HEADER_BYTES or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            break
        if header.startswith(b"data.tar"):
            return package
        size = int(header[48:58])
        package.seek(size + size % 2, 1)
    raise ConfigError("bad_package", f"{name}: a package without files")
