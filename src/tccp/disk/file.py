"""Disk files: opened by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tccp.core.disk import BLOCK_BYTES, LOG_BYTES_DEFAULT, BaseImage, DiskKey, LiveDisk
from tccp.errors import HostError

LOG_OFFSET = 65536


@contextmanager
def locked_file(path: Path, *, read_only: bool = False) -> Iterator[int]:
    """A descriptor of the file, locked against other processes (readers share) until the end of the block.

    Raises:
        HostError: ``disk_in_use``, or it cannot be opened.
    """
    try:
        file = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("disk_unreadable", f"{path}: {error.strerror}") from error
    try:
        _lock(file, path, fcntl.LOCK_SH if read_only else fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def is_unmade(file: int) -> bool:
    """Whether the file is empty, or what `create_disk` left when it was killed: no superblock, and no room for data.

    Such a file holds nothing, so a disk may be made in it.
    """
    log_end = LOG_OFFSET + LOG_BYTES_DEFAULT
    return os.fstat(file).st_size <= log_end and not any(os.pread(file, 2 * BLOCK_BYTES, 0))


def _lock(file: int, path: Path, kind: int) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HostError(
            "disk_in_use",
            f"{path}: another process uses it",
            hint="A process that serves it answers `tccp disk ask SOCKET info|mark|compact`.",
        ) from None
    except OSError as error:
        raise HostError("disk_unreadable", f"{path}: {error.strerror}") from error


@contextmanager
def open_base(path: Path | None, key: DiskKey, *, root: bytes | None = None) -> Iterator[BaseImage | None]:
    """The sealed image in the file *path*, if there is one.

    Raises:
        DiskError: It is not the image it was, or of another key; see `BaseImage`.
        HostError: It cannot be read.
    """
    if path is None:
        yield None
        return
    try:
        image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("image_unreadable", f"{path}: {error.strerror}") from error
    try:
        yield BaseImage(image, key, root=root)
    finally:
        os.close(image)


@contextmanager
def open_live_disk(
    path: Path,
    key: DiskKey,
    *,
    base: Path | None = None,
    root: bytes | None = None,
    not_before: bytes | None = None,
    read_only: bool = False,
) -> Iterator[LiveDisk]:
    """The disk in the file *path*, locked; forgotten at the end of the block unless it was closed.

    Args:
        base: The sealed image that it was made over.

    Raises:
        DiskError: See `LiveDisk` and `BaseImage`.
        HostError: ``disk_in_use``, or a file cannot be read or written.
    """
    with (
        locked_file(path, read_only=read_only) as file,
        open_base(base, key) as image,
        LiveDisk(file, key, base=image, root=root, not_before=not_before, read_only=read_only) as disk,
    ):
        yield disk
