"""Reading the files that a command line names, never more of them than makes sense, and writing new ones."""

import os
import sys
from pathlib import Path

from tccp.errors import ConfigError, EvidenceError, HostError

STDIN = Path("-")
SECRET_MODE, PUBLIC_MODE = 0o600, 0o644


def read_file(path: Path, *, bytes_max: int) -> bytes:
    """All of the file, or of standard input when *path* is ``-``.

    Raises:
        EvidenceError: It is longer than *bytes_max*; no more than that was read.
        HostError: It cannot be read.
    """
    try:
        if path == STDIN and sys.stdin is None:
            raise HostError("file_unreadable", "-: standard input is closed")
        if path == STDIN:
            content = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with path.open("rb") as file:
                content = file.read(bytes_max + 1)
    except OSError as error:
        raise HostError("file_unreadable", f"{path}: {error.strerror}", hint=_hint(error)) from error
    if len(content) > bytes_max:
        raise EvidenceError("too_large", f"{path}: more than {bytes_max} bytes")
    return content


def read_folder(path: Path, *, suffixes: frozenset[str], bytes_max: int) -> dict[Path, bytes]:
    """The files of a folder with one of these *suffixes*, in order of name; not of folders below it.

    Raises:
        EvidenceError: One is longer than *bytes_max*.
        HostError: The folder or a file cannot be read.
    """
    try:
        paths = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in suffixes)
    except OSError as error:
        raise HostError("folder_unreadable", f"{path}: {error.strerror}") from error
    return {entry: read_file(entry, bytes_max=bytes_max) for entry in paths}


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Put *content* into a new file, durably; what is there is never overwritten.

    Raises:
        ConfigError: ``key_exists``.
        HostError: ``file_unwritable``; nothing is left of the file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise ConfigError(
            "key_exists", f"{path} is there already", hint="Choose another name: a lost key opens nothing any more."
        ) from error
    except OSError as error:
        raise HostError("file_unwritable", f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError):
            raise HostError("file_unwritable", f"{path}: {error.strerror}") from error
        raise


def _hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Run as a user who may read it; the kernel's logs below /sys/kernel/security are root's."
    return ""
