"""What this host has measured, as the kernel lists it; read in parts, from where the coordinator has got to."""

import os
from pathlib import Path

from tccp.errors import HostError
from tccp.protocol.messages import HOST_LOG_PART_BYTES


class ImaList:
    """The kernel's list. It stays open: the kernel finds the place where it was read last, not any other, without
    going through all that is before.

    Args:
        path: None where the host has none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None

    def read(self, offset: int) -> bytes:
        """What there is from *offset* on, `HOST_LOG_PART_BYTES` at most; empty at the end, and where there is no list.

        Raises:
            HostError: ``ima_list``: there is one, and it cannot be read.
        """
        if self._path is None:
            return b""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            found = bytearray()
            while len(found) < HOST_LOG_PART_BYTES:
                part = os.pread(self._descriptor, HOST_LOG_PART_BYTES - len(found), offset + len(found))
                if not part:
                    break
                found += part
        except FileNotFoundError:
            return b""
        except OSError as problem:
            raise HostError("ima_list", f"{self._path}: {problem.strerror}") from None
        return bytes(found)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
