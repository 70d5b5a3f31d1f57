"""Reading the files that a command line names, never more of them than makes sense."""

import sys
from pathlib import Path

from tccp.errors import EvidenceError, HostError

STDIN = Path("-")


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


def _hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Run as a user who may read it: event logs of the kernel are root's."
    return ""
