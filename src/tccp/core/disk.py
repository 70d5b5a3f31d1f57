"""Live disks: the engine of csrc/disk.c as a Python object.

Keys never enter Python: they go from a descriptor into locked memory of the C core.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tccp.core._lib import check, ffi, lib
from tccp.core.image import suite_of_cpu
from tccp.errors import DiskError, HostError

__all__ = [
    "BLOCK_BYTES",
    "LOG_BYTES_DEFAULT",
    "MARK_BYTES",
    "ROOT_BYTES",
    "DiskInfo",
    "DiskKey",
    "LiveDisk",
    "confine",
    "create_disk",
    "serve_nbd",
]

BLOCK_BYTES: int = lib.TCCP_DISK_BLOCK_BYTES
ROOT_BYTES: int = lib.TCCP_DISK_ROOT_BYTES
MARK_BYTES: int = lib.TCCP_DISK_MARK_BYTES
LOG_BYTES_DEFAULT: int = lib.TCCP_DISK_LOG_BYTES_DEFAULT
_HOST_STATUSES = {lib.TCCP_ERR_IO, lib.TCCP_ERR_NO_SPACE}


def _check(status: int, detail: str = "") -> None:
    check(status, HostError if status in _HOST_STATUSES else DiskError, detail)


class DiskKey:
    """The key of one disk, in locked memory until `wipe` or the end of this object."""

    __slots__ = ("_key",)

    def __init__(self, descriptor: int) -> None:
        """Read exactly 32 bytes from *descriptor*, up to its end.

        Raises:
            DiskError: ``malformed``: more or fewer bytes.
            HostError: It cannot be read.
        """
        key = ffi.new("tccp_disk_key **")
        _check(lib.tccp_disk_key_read(descriptor, key), f"a key has {lib.TCCP_DISK_KEY_BYTES} bytes")
        self._key = ffi.gc(key[0], lib.tccp_disk_key_free)

    def wipe(self) -> None:
        """Wipe the key now; the object is of no use afterwards."""
        ffi.release(self._key)
        self._key = ffi.NULL


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """What a disk says of itself; see ``tccp_disk_info`` in csrc/tccp_disk.h."""

    disk_id: bytes
    root: bytes
    base_root: bytes
    mark: bytes
    suite: int
    base_bytes: int
    size_bytes: int
    generation: int
    sequence: int
    replayed: int
    dropped: bool
    data_bytes: int
    zero_bytes: int
    free_bytes: int


class BaseImage:
    """A sealed image that live disks are made over; it outlives them."""

    __slots__ = ("_base",)

    def __init__(self, file: int, key: DiskKey, *, root: bytes | None = None) -> None:
        """Verify the header and tags of the sealed image in *file*, which stays open as long as this object.

        Args:
            key: The image's; the disk over it has the same.
            root: What a ticket names; without it any image is taken that the key opens.

        Raises:
            DiskError: As for sealed images: ``wrong_key``, ``wrong_root``, ``truncated`` and so on.
            HostError: It cannot be read.
        """
        base = ffi.new("tccp_disk_base **")
        _check(lib.tccp_disk_base_open(file, key._key, ffi.NULL if root is None else root, base), "the base image")
        self._base = ffi.gc(base[0], lib.tccp_disk_base_close)

    @property
    def size_bytes(self) -> int:
        """The smallest size of a disk over it."""
        return int(self._base.blocks) * BLOCK_BYTES

    @property
    def root(self) -> bytes:
        """What a ticket names."""
        return bytes(self._base.root)


def create_disk(
    file: int,
    key: DiskKey,
    size_bytes: int,
    *,
    base: BaseImage | None = None,
    log_bytes: int = LOG_BYTES_DEFAULT,
    suite: int | None = None,
) -> None:
    """Make a live disk in the empty (or half-made) file *file*, of zeros or of what *base* shows; durable on return.

    Args:
        size_bytes: A multiple of `BLOCK_BYTES`.
        log_bytes: Room for commits between two checkpoints; a multiple of `BLOCK_BYTES`, 64 KiB at least.
        suite: The cipher, a key of `SUITES`; by default the one that suits this CPU.

    Raises:
        HostError: The file cannot be written.
    """
    below = ffi.NULL if base is None else base._base
    cipher = suite_of_cpu() if suite is None else suite
    _check(lib.tccp_disk_create(file, key._key, below, cipher, size_bytes, log_bytes), "tccp_disk_create")


class LiveDisk:
    """An open live disk. Its methods may be called from any thread, and all but `grow`, `close` and `forget` at once.

    The caller holds a lock on the file, and keeps *file* open as long as this object.
    """

    __slots__ = ("_base", "_disk")

    def __init__(
        self,
        file: int,
        key: DiskKey,
        *,
        base: BaseImage | None = None,
        root: bytes | None = None,
        not_before: bytes | None = None,
        read_only: bool = False,
    ) -> None:
        """Open the disk in *file*, and bring it to the last state that a flush answered for, or a later one.

        Args:
            base: The image that it was made over.
            root: What `close` returned: the disk must stand exactly so. Without it, any state is accepted.
            not_before: What `mark` returned, or `describe` of a disk opened for reading said: the disk's history must
                have come by there.
            read_only: Change nothing in the file.

        Raises:
            DiskError: ``wrong_disk_key``, ``disk_corrupt``, ``wrong_disk_root`` (rolled back, or gone on),
                ``wrong_disk_mark`` (rolled back, forked, or a mark that is forgotten),
                ``wrong_base_image``, ``malformed`` (no disk at all), ``unsupported``.
            HostError: The file cannot be read or written.
        """
        assert root is None or len(root) == ROOT_BYTES
        assert not_before is None or len(not_before) == MARK_BYTES
        disk = ffi.new("tccp_disk **")
        demand = ffi.new("tccp_disk_demand *")
        demand.root = expected = ffi.NULL if root is None else ffi.from_buffer("uint8_t[]", root)
        demand.mark = passed = ffi.NULL if not_before is None else ffi.from_buffer("uint8_t[]", not_before)
        below = ffi.NULL if base is None else base._base
        _check(lib.tccp_disk_open(file, key._key, below, demand, read_only, disk), "tccp_disk_open")
        del expected, passed  # they kept alive what the struct points to
        self._base = base  # the C core calls into it
        self._disk = ffi.gc(disk[0], lib.tccp_disk_free)

    @property
    def handle(self) -> Any:
        """The ``tccp_disk *`` itself."""
        return self._disk

    def flush(self) -> None:
        """Make everything durable that was written before this call.

        Raises:
            HostError: It is unknown what the disk holds now; every later write and flush fails, too.
        """
        _check(lib.tccp_disk_flush(self._disk), "flush")

    def verify(self, first_block: int, count: int) -> tuple[int, int]:
        """Verify some blocks: how many are bad, and which is the first of them."""
        bad = ffi.new("uint64_t *")
        first_bad = ffi.new("uint64_t *")
        _check(lib.tccp_disk_verify(self._disk, first_block, count, bad, first_bad), "verify")
        return int(bad[0]), int(first_bad[0])

    def describe(self) -> DiskInfo:
        """What the disk says of itself."""
        info = ffi.new("tccp_disk_info *")
        lib.tccp_disk_describe(self._disk, info)
        return DiskInfo(
            disk_id=bytes(info.disk_id),
            root=bytes(info.root),
            base_root=bytes(info.base_root),
            mark=bytes(info.mark),
            suite=int(info.suite),
            base_bytes=int(info.base_blocks) * BLOCK_BYTES,
            size_bytes=int(info.size_bytes),
            generation=int(info.generation),
            sequence=int(info.sequence),
            replayed=int(info.replayed),
            dropped=bool(info.dropped),
            data_bytes=int(info.data_blocks) * BLOCK_BYTES,
            zero_bytes=int(info.zero_blocks) * BLOCK_BYTES,
            free_bytes=int(info.slots_free) * BLOCK_BYTES,
        )

    def mark(self) -> bytes:
        """The moment that the disk's history has come to, to be demanded later (``not_before``).

        It holds everything that a flush has answered for; it survives any crash. The newest 63 are remembered, and the
        one that was last said to be kept, or demanded.
        """
        mark = ffi.new("uint8_t[]", MARK_BYTES)
        _check(lib.tccp_disk_mark(self._disk, mark), "tccp_disk_mark")
        return bytes(ffi.buffer(mark))

    def mark_kept(self, mark: bytes) -> None:
        """Remember *mark* until this is said of a newer one; older ones may be forgotten.

        Raises:
            DiskError: ``wrong_disk_mark``: it is not remembered.
        """
        assert len(mark) == MARK_BYTES
        _check(lib.tccp_disk_mark_kept(self._disk, mark), "tccp_disk_mark_kept")

    def grow(self, size_bytes: int) -> None:
        """Make the disk larger; nobody else uses it. Durable on return."""
        _check(lib.tccp_disk_grow(self._disk, size_bytes), f"grow to {size_bytes} bytes")

    def compact(self) -> int:
        """Give all free room back to the file system; the disk may be in use. Returns the bytes, holes included."""
        freed = ffi.new("uint64_t *")
        _check(lib.tccp_disk_compact(self._disk, freed), "compact")
        return int(freed[0])

    def close(self) -> bytes:
        """Write everything, and return the root to demand at the next opening. The disk is forgotten in any case."""
        root = ffi.new("uint8_t[]", ROOT_BYTES)
        try:
            _check(lib.tccp_disk_close_clean(self._disk, root), "close")
        finally:
            self.forget()
        return bytes(ffi.buffer(root))

    def forget(self) -> None:
        """Let go of the disk and wipe its keys; what no flush answered for may be lost."""
        ffi.release(self._disk)
        self._disk = ffi.NULL

    def __enter__(self) -> Self:
        """Nothing but the object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget the disk, unless it was closed."""
        if self._disk != ffi.NULL:
            self.forget()


def serve_nbd(disk: LiveDisk, listener: int, stop: int) -> None:
    """Serve *disk* over NBD to whoever connects to the socket *listener*, until *stop* can be read.

    Blocks, with the interpreter's lock released; see ``tccp_nbd_serve``. Nothing is flushed at the end.
    """
    _check(lib.tccp_nbd_serve(disk.handle, listener, stop), "tccp_nbd_serve")


def confine() -> None:
    """Refuse this process every system call that serving a disk and ending do not need; see csrc/disk_process.c.

    Raises:
        HostError: The kernel has no seccomp.
        DiskError: ``unsupported``: an architecture whose calls are not listed.
    """
    _check(lib.tccp_disk_process_confine(), "seccomp")
