"""Reading the files that a command line names, never more of them than makes sense, and writing new ones."""

import sys
from pathlib import Path

from tccp.errors import ConfigError, EvidenceError, HostError

STDIN = Path("-")
SECRET_MODE, PUBLIC_MODE = 0o600, 0o644
EVENT_LOG_BYTES_MAX = 5 << 20  # the core refuses event logs over 4 MiB by itself, and says so


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


def refuse_existing(path: Path | None) -> None:
    """Say that `write_new` would refuse *path*, before anything is done; None is a file that nobody wants.

    Raises:
        ConfigError: ``file_exists``.
    """
    if path is not None and path.is_file():
        raise _exists(path)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Put *content* into a new file, durably; what is there is never overwritten. A device or a pipe gets it as it is.

    Raises:
        ConfigError: ``file_exists``.
        HostError: ``file_unwritable``; nothing is left of the file.
    """
    from tccp.durable import create_file

    try:
        if not _written_as_it_is(path, content):
            create_file(path, content, mode=mode)
    except FileExistsError:
        raise _exists(path) from None


def write_new_key(path: Path, content: bytes, mode: int) -> None:
    """Put a key into a new file, durably; what is there is never overwritten.

    Raises:
        ConfigError: ``key_exists``.
        HostError: ``file_unwritable``; nothing is left of the file.
    """
    from tccp.durable import create_file

    try:
        create_file(path, content, mode=mode)
    except FileExistsError as error:
        hint = "Choose another name: a lost key opens nothing any more."
        raise ConfigError("key_exists", f"{path} is there already", hint=hint) from error


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Put *content* into a file, durably, in place of what was there. A device or a pipe gets it as it is.

    Raises:
        HostError: ``file_unwritable``; what was there is as it was.
    """
    from tccp.durable import replace_file

    if not _written_as_it_is(path, content):
        replace_file(path.resolve(), content, mode=mode)


def _written_as_it_is(path: Path, content: bytes) -> bool:
    """Whether it was: nothing takes the place of what is no file."""
    if not path.exists() or path.is_file():
        return False
    try:
        path.write_bytes(content)
    except OSError as error:
        raise HostError("file_unwritable", f"{path}: {error.strerror}") from error
    return True


def _exists(path: Path) -> ConfigError:
    return ConfigError("file_exists", f"{path} is there already", hint="Choose another name, or move it away.")


def _hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Run as a user who may read it; the kernel's logs below /sys/kernel/security are root's."
    return ""
