"""Small files that are whole on the disk or not there at all, also after a crash."""

import os
from contextlib import suppress
from pathlib import Path

from tccp.errors import HostError
from tccp.image.output import new_file


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put *content* at *path*, durably, in place of what was there.

    Raises:
        HostError: ``file_unwritable``: what was there is as it was, and nothing else is left.
    """
    try:
        with new_file(path, mode=mode) as file:
            _write_all(file.descriptor, content)
            file.publish()
    except OSError as problem:
        raise _unwritable(path, problem) from None


def create_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put *content* into a new file, durably.

    Raises:
        FileExistsError: Something is there.
        HostError: ``file_unwritable``: nothing is left of it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise
    except OSError as problem:
        raise _unwritable(path, problem) from None
    try:
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except BaseException as problem:
        with suppress(OSError):
            path.unlink()
        if isinstance(problem, OSError):
            raise _unwritable(path, problem) from None
        raise


def sync_folder(path: Path) -> None:
    """Make the names in the folder at *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _unwritable(path: Path, problem: OSError) -> HostError:
    return HostError("file_unwritable", f"{path}: {problem.strerror}")
