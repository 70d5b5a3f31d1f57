"""Files that are on the disk once a function returns, and whole whenever somebody looks. All of it raises OSError."""

import os
from pathlib import Path

PRIVATE = 0o600


def write_whole(path: Path, content: bytes) -> None:
    """Put *content* at *path*, for our eyes only: whoever looks sees the old file or the new one, also after a crash.

    One at a time for each *path*.
    """
    staged = path.with_name(f".{path.name}.new")
    write_synced(staged, content, os.O_CREAT | os.O_TRUNC)
    put_in_place(staged, path)


def write_synced(path: Path, content: bytes, flags: int) -> None:
    """Write *content* into the file at *path*, which is opened with *flags*; its name may not be durable yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def put_in_place(staged: Path, path: Path) -> None:
    """Let the file *staged*, which is beside *path* and durable, be that one."""
    staged.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in the folder at *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
