"""Copies of encrypted files within a folder: shared blocks where the file system can, else without the holes."""

import errno
import fcntl
import os
from pathlib import Path

from tccp.node.vm.durable import sync_folder

FICLONE = 0x40049409  # linux/fs.h
PIECE_BYTES = 1 << 30


def copy_file(source: Path, target: Path) -> None:
    """Replace *target* by a durable copy of *source*, as a whole.

    Raises:
        OSError: It cannot be read or written; *target* is as it was.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        with source.open("rb") as here, partial.open("wb") as there:
            os.fchmod(there.fileno(), 0o600)
            if not _share(here.fileno(), there.fileno()):
                _copy(here.fileno(), there.fileno())
            os.fsync(there.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _share(here: int, there: int) -> bool:
    try:
        fcntl.ioctl(there, FICLONE, here)
    except OSError:
        return False
    return True


def _copy(here: int, there: int) -> None:
    size, at = os.fstat(here).st_size, 0
    os.ftruncate(there, size)
    while at < size:
        try:
            at = os.lseek(here, at, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        end = os.lseek(here, at, os.SEEK_HOLE)
        os.lseek(here, at, os.SEEK_SET)
        os.lseek(there, at, os.SEEK_SET)
        while at < end:
            copied = os.copy_file_range(here, there, min(end - at, PIECE_BYTES))
            if copied == 0:
                return
            at += copied
