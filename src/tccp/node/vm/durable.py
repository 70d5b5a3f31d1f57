"""Changes to files that outlive a loss of power once they are made."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Have the names in *folder* be as they are now, whatever comes.

    Raises:
        OSError: The file system failed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Put *content* in the place of the file *path*, as a whole.

    Raises:
        OSError: The file system failed; what was there is as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)
