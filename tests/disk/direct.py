"""A live disk that is read and written by calling the C core, as its NBD server does for everybody else."""

from tccp._core import ffi, lib
from tccp.core._lib import check as check_status
from tccp.core.disk import LiveDisk
from tccp.errors import DiskError, HostError


def check(status: int, detail: str) -> None:
    host = status in {lib.TCCP_ERR_IO, lib.TCCP_ERR_NO_SPACE}
    check_status(status, HostError if host else DiskError, detail)


class DirectDisk(LiveDisk):
    """What no part of tccp does in its own process."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there, verified.

        Raises:
            DiskError: ``disk_corrupt``: a block does not verify.
        """
        buffer = ffi.new("uint8_t[]", max(length, 1))
        check(lib.tccp_disk_read(self.handle, offset, length, buffer), f"{length} bytes at {offset}")
        return bytes(ffi.buffer(buffer, length))

    def write(self, offset: int, content: bytes) -> None:
        """Write; durable after the next `flush`."""
        check(lib.tccp_disk_write(self.handle, offset, len(content), content), f"{len(content)} bytes at {offset}")

    def zero(self, offset: int, length: int) -> None:
        """Make the bytes zeros, and give their room back; durable after the next `flush`."""
        check(lib.tccp_disk_zero(self.handle, offset, length), f"{length} bytes at {offset}")

    def extent(self, offset: int, length: int) -> tuple[bool, int]:
        """Whether *offset* begins data (or a hole that reads as zeros), and for how many bytes."""
        is_data = ffi.new("int *")
        found = ffi.new("uint64_t *")
        check(lib.tccp_disk_extent(self.handle, offset, length, is_data, found), "extent")
        return bool(is_data[0]), int(found[0])

    def start_keeper(self) -> None:
        """Start a thread that makes room ready before it is needed, and commits when much was written without a flush.

        It ends with `close` or `forget`. `serve_nbd` starts it, too.
        """
        check(lib.tccp_disk_keeper_start(self.handle), "tccp_disk_keeper_start")
