"""Archives as the Linux kernel unpacks them into an initramfs.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, "newc".
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_FOLDER = stat.S_IFDIR | 0o755


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of root's."""

    content: bytes
    executable: bool = False

    @property
    def mode(self) -> int:
        return stat.S_IFREG | (0o755 if self.executable else 0o644)


def write_cpio(files: Mapping[str, File], folders: tuple[str, ...] = ()) -> bytes:
    """An archive of *files*, by names without a leading slash, with the folders that they lie in and empty *folders*.

    The same files give the same bytes.
    """
    names = [*folders, *(str(parent) for name in files for parent in PurePosixPath(name).parents)]
    # A folder sorts before what lies in it.
    entries = [(name, _FOLDER, b"") for name in sorted({*names} - {"."})]
    entries += [(name, file.mode, file.content) for name, file in files.items()]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)
