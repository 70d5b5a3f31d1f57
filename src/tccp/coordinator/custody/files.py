"""Writing beside the keys: whole or not at all, for the daemon's eyes only, even when root does it."""

import os
from pathlib import Path

from tccp.errors import HostError

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def write_whole(path: Path, content: bytes) -> None:
    """Put *content* at *path* durably; whoever looks sees the old file or the new one.

    Raises:
        HostError: ``state_unwritable``.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_synced(staged, content, os.O_CREAT | os.O_TRUNC)
        staged.rename(path)
        sync_folder(path.parent)
    except OSError as problem:
        raise unwritable(problem) from None


def append_line(path: Path, line: bytes) -> None:
    """Append *line* to the file at *path* durably.

    Raises:
        HostError: ``state_unwritable``.
    """
    try:
        _write_synced(path, line + b"\n", os.O_CREAT | os.O_APPEND)
        sync_folder(path.parent)
    except OSError as problem:
        raise unwritable(problem) from None


def make_folder(path: Path) -> None:
    """A folder for the owner of the one above; it may be there already."""
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    _give_to_owner_of_folder(path)


def sync_folder(path: Path) -> None:
    """Make the names in the folder at *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(problem: OSError) -> HostError:
    """The error for a state directory that takes nothing."""
    return HostError("state_unwritable", f"{problem.filename}: {problem.strerror}")


def _write_synced(path: Path, content: bytes, flags: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _give_to_owner_of_folder(path)


def _give_to_owner_of_folder(path: Path) -> None:
    """What root makes in the daemon's folder is the daemon's."""
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
