"""Files that appear complete or not at all.

What is being written has no name (O_TMPFILE): whatever ends this process, the kernel takes it away. Only when it is
complete and synced does it get a name, in one step, over what had that name before.
"""

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tccp.errors import HostError

NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}
COPY_BYTES = 1 << 20


class NewFile:
    """A file that is being written; `publish` gives it its name."""

    def __init__(self, path: Path, descriptor: int, part: Path | None) -> None:
        """Made by `new_file`."""
        self.descriptor = descriptor
        self._path = path
        self._part = part

    def publish(self) -> None:
        """Sync it, then let it take the place of whatever has its name."""
        os.fsync(self.descriptor)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self._part is None and not self._link(folder, self._path):
                self._part = _part_of(self._path)
                self._link(folder, self._part)
            if self._part is not None:
                self._part.replace(self._path)
                self._part = None
            os.fsync(folder)
        finally:
            os.close(folder)

    def _link(self, folder: int, path: Path) -> bool:
        """Give the unnamed file a name, unless there is one of that name."""
        try:
            # With a folder's descriptor, os.link is linkat(2), which follows the link that /proc is.
            os.link(f"/proc/self/fd/{self.descriptor}", path.name, dst_dir_fd=folder, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._part is not None:
            self._part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = 0o600) -> Iterator[NewFile]:
    """A file to be written and published; when the block ends otherwise, nothing is left of it.

    Raises:
        HostError: It cannot be made there.
    """
    file = _create(path, mode)
    try:
        yield file
    finally:
        file.discard()
        os.close(file.descriptor)


def _create(path: Path, mode: int) -> NewFile:
    folder = path.parent
    try:
        try:
            return NewFile(path, os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode), None)
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES or not folder.is_dir():
                raise
        part = _part_of(path)
        return NewFile(path, os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode), part)
    except OSError as error:
        raise HostError("file_unwritable", f"{path}: {error.strerror}") from error


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def spool() -> Iterator[int]:
    """The descriptor of an unnamed file in the folder for temporary files, for ciphertext between two pipes."""
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def copy_to_end(source: int, target: int) -> None:
    """Everything from the offset of *source* to its end, into *target*; each may be a pipe."""
    while block := os.read(source, COPY_BYTES):
        at = 0
        while at < len(block):
            at += os.write(target, block[at:])


def is_regular(descriptor: int) -> bool:
    """Whether it has a length, and any place of it can be read."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
