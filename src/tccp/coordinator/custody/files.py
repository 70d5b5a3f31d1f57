"""Writing beside the keys: whole or not at all, for the daemon's eyes only, even when root does it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tccp.durable import sync_folder
from tccp.errors import HostError

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def write_whole(path: Path, content: bytes) -> None:
    """Put *content* at *path* durably; whoever looks sees the old file or the new one.

    Raises:
        HostError: ``state_unwritable``.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_synced(staged, content)
        _give_to_owner_of_folder(staged)
        staged.rename(path)
        sync_folder(path.parent)
    except OSError as problem:
        raise unwritable(problem) from None


def append_line(path: Path, line: bytes) -> None:
    """Append *line* to the file at *path* durably, in the place of one that was cut off by a crash or a full disk.

    Raises:
        HostError: ``state_unwritable``.
    """
    try:
        with alone_with(path, os.O_CREAT) as file:
            _give_to_owner_of_folder(path)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            file.seek(whole)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as problem:
        raise unwritable(problem) from None


@contextlib.contextmanager
def alone_with(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """The file at *path*, to which nobody else appends meanwhile, and which nobody else removes.

    Raises:
        OSError: It cannot be opened.
    """
    with contextlib.ExitStack() as opened:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, FILE_MODE)
            file = opened.enter_context(os.fdopen(descriptor, "r+b"))
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file):  # else whoever had it has removed it
                break
        yield file


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def make_folder(path: Path) -> None:
    """A folder for the owner of the one above; it may be there already."""
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    _give_to_owner_of_folder(path)


def unwritable(problem: OSError) -> HostError:
    """The error for a state directory that takes nothing."""
    return HostError("state_unwritable", f"{problem.filename}: {problem.strerror}")


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _give_to_owner_of_folder(path: Path) -> None:
    """What root makes in the daemon's folder is the daemon's."""
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
