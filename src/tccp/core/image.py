"""Sealed images in C: see ``csrc/tccp_image.h`` and ``docs/IMAGE_FORMAT.md``."""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tccp.core._lib import check, ffi, lib
from tccp.errors import HostError, SealedImageError

HEADER_BYTES: int = lib.TCCP_IMAGE_HEADER_BYTES
RECIPIENT_BYTES: int = lib.TCCP_IMAGE_RECIPIENT_BYTES
RECIPIENTS_MAX: int = lib.TCCP_IMAGE_RECIPIENTS_MAX
SIZE_MAX: int = lib.TCCP_IMAGE_SIZE_MAX
THREADS_MAX: int = lib.TCCP_IMAGE_THREADS_MAX
DESCRIPTOR_BYTES = 256
RECIPIENTS_OFFSET = 4096
SUITES: dict[int, str] = {lib.TCCP_SUITE_AEGIS256: "AEGIS-256", lib.TCCP_SUITE_XCHACHA20_POLY1305: "XChaCha20-Poly1305"}


class CancelledError(Exception):
    """A job ended because `ImageProgress.cancel` was called."""


class ImageKey:
    """The key of one image, in locked memory that is wiped when this object goes."""

    __slots__ = ("_key",)

    def __init__(self, key: Any) -> None:
        """Made by `generate` and `take`."""
        self._key = ffi.gc(key, lib.tccp_image_key_free)

    @classmethod
    def generate(cls) -> "ImageKey":
        """A fresh random key."""
        key = ffi.new("tccp_image_key **")
        check(lib.tccp_image_key_generate(key), SealedImageError)
        return cls(key[0])

    @classmethod
    def take(cls, key_bytes: bytes | bytearray | memoryview) -> "ImageKey":
        """The key with these 32 bytes, *which are wiped*: nobody else may hold on to them.

        Raises:
            SealedImageError: They are not 32.
        """
        if len(key_bytes) != lib.TCCP_IMAGE_KEY_BYTES:
            raise SealedImageError("malformed", f"an image key has 32 bytes, not {len(key_bytes)}")
        key = ffi.new("tccp_image_key **")
        # The very memory of the object, so that no copy stays behind.
        source = ffi.cast("uint8_t *", ffi.from_buffer(key_bytes))
        check(lib.tccp_image_key_take(source, len(key_bytes), key), SealedImageError)
        return cls(key[0])

    @property
    def buffer(self) -> Any:
        """The 32 bytes where they are, for wrapping; valid while this object lives."""
        return ffi.buffer(lib.tccp_image_key_bytes(self._key), lib.TCCP_IMAGE_KEY_BYTES)

    @property
    def handle(self) -> Any:
        """For the functions of this module, which hold on to it only while they run."""
        return self._key

    def wipe(self) -> None:
        """Wipe the key now, whoever still refers to this object; it opens nothing any more.

        A call into C that another thread is making with it comes to its end: that reference is the last.
        """
        self._key = None

    @property
    def is_wiped(self) -> bool:
        """Whether `wipe` was called."""
        return self._key is None


class ImageProgress:
    """Shared with a running job: any thread may look at it or cancel the job."""

    __slots__ = ("struct",)

    def __init__(self) -> None:
        """Nothing was done yet."""
        self.struct = ffi.new("tccp_image_progress *")

    @property
    def total_bytes(self) -> int:
        """How long the image is; 0 while nobody knows."""
        return int(self.struct.total_bytes)

    @property
    def done_bytes(self) -> int:
        """How much of it is done."""
        return int(self.struct.done_bytes)

    def cancel(self) -> None:
        """Ask the job to end."""
        self.struct.cancel = 1


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of a sealed image says; ``tccp_image_info`` in csrc/tccp_image.h tells what each means."""

    size: int
    file_bytes: int
    suite: int
    recipient_count: int
    image_id: bytes
    file_nonce: bytes
    commitment: bytes
    tree: bytes
    root: bytes
    tenant: bytes | None = None
    signature: bytes | None = field(default=None, repr=False)

    @property
    def suite_name(self) -> str:
        """``"AEGIS-256"``."""
        return SUITES[self.suite]


def suite_of_cpu() -> int:
    """The suite for new images on this CPU."""
    return int(lib.tccp_image_suite_of_cpu())


def _info_of(struct: Any) -> ImageInfo:
    signed = bool(struct.is_signed)
    return ImageInfo(
        size=int(struct.size),
        file_bytes=int(struct.file_bytes),
        suite=int(struct.suite),
        recipient_count=int(struct.recipient_count),
        image_id=bytes(struct.image_id),
        file_nonce=bytes(struct.file_nonce),
        commitment=bytes(struct.commitment),
        tree=bytes(struct.tree),
        root=bytes(struct.root),
        tenant=bytes(struct.tenant) if signed else None,
        signature=bytes(struct.signature) if signed else None,
    )


def _struct_of(info: ImageInfo) -> Any:
    struct = ffi.new("tccp_image_info *")
    struct.size = info.size
    struct.file_bytes = info.file_bytes
    struct.suite = info.suite
    struct.recipient_count = info.recipient_count
    struct.is_signed = info.tenant is not None
    for name in ("image_id", "file_nonce", "commitment", "tree", "root", "tenant", "signature"):
        value = getattr(info, name)
        if value is not None:
            ffi.memmove(getattr(struct, name), value, len(value))
    return struct


def image_header_parse(header: bytes, file_bytes: int) -> ImageInfo:
    """Parse the first 64 KiB of a sealed image; see ``tccp_image_header_parse``. Nothing is verified yet."""
    struct = ffi.new("tccp_image_info *")
    status = lib.tccp_image_header_parse(header, len(header), file_bytes, struct)
    check(status, SealedImageError, _HEADER_DETAILS.get(status, ""))
    return _info_of(struct)


_HEADER_DETAILS = {
    lib.TCCP_ERR_MALFORMED: "this is not a sealed image, or its header is damaged",
    lib.TCCP_ERR_UNSUPPORTED: "a version or cipher that this tccp does not know",
    lib.TCCP_ERR_TRUNCATED: "the file ends before the image does",
    lib.TCCP_ERR_EXTENDED: "there are bytes behind the end of the image",
    lib.TCCP_ERR_TOO_LARGE: "the header claims an image that is larger than any",
    lib.TCCP_ERR_WRONG_KEY: "the image was sealed with another key",
    lib.TCCP_ERR_SUITE_ALTERED: "the header names another cipher than the one that sealed the image",
    lib.TCCP_ERR_HEADER_ALTERED: "the header is not as it was sealed",
    lib.TCCP_ERR_RECIPIENTS_ALTERED: "the recipients were changed by somebody who does not hold the key",
}


def image_header_check(header: bytes, info: ImageInfo, key: ImageKey) -> None:
    """Check a parsed header with the image key; see ``tccp_image_header_check``."""
    status = lib.tccp_image_header_check(header, len(header), _struct_of(info), key.handle)
    check(status, SealedImageError, _HEADER_DETAILS.get(status, ""))


def image_header_write(info: ImageInfo, recipients: Sequence[bytes], key: ImageKey) -> bytes:
    """The 64 KiB of header and recipients, with their MACs."""
    assert info.recipient_count == len(recipients)
    entries = b"".join(recipients)
    header = ffi.new("uint8_t[]", HEADER_BYTES)
    status = lib.tccp_image_header_write(_struct_of(info), entries, len(entries), key.handle, header, HEADER_BYTES)
    check(status, SealedImageError)
    return bytes(ffi.buffer(header))


def image_seal(
    source_fd: int, target_fd: int, key: ImageKey, *, suite: int, threads: int, progress: ImageProgress
) -> ImageInfo:
    """Encrypt one descriptor into another; see ``tccp_image_seal``. Blocks: run it in a thread of its own."""
    struct = ffi.new("tccp_image_info *")
    _end(lib.tccp_image_seal(source_fd, target_fd, key.handle, suite, threads, progress.struct, struct), progress)
    return _info_of(struct)


def image_open(
    image_fd: int,
    target_fd: int,
    info: ImageInfo,
    key: ImageKey,
    *,
    in_order: bool,
    threads: int,
    progress: ImageProgress,
) -> None:
    """Decrypt, or with *target_fd* -1 only verify; see ``tccp_image_open``. Blocks: run it in a thread of its own."""
    struct = _struct_of(info)
    _end(lib.tccp_image_open(image_fd, target_fd, in_order, struct, key.handle, threads, progress.struct), progress)


def image_check_tags(image_fd: int, info: ImageInfo, progress: ImageProgress) -> None:
    """Whether the tags lead to the root; see ``tccp_image_check_tags``. Needs no key."""
    _end(lib.tccp_image_check_tags(image_fd, _struct_of(info), progress.struct), progress)


def _end(status: int, progress: ImageProgress) -> None:
    """Raise what a job ended with."""
    struct = progress.struct
    if status == lib.TCCP_ERR_CANCELLED:
        raise CancelledError
    if status == lib.TCCP_ERR_IO and struct.os_error == errno.EPIPE:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    if status == lib.TCCP_ERR_IO:
        raise HostError(errno.errorcode.get(struct.os_error, "os_error").lower(), os.strerror(struct.os_error))
    check(status, SealedImageError, _job_detail(status, struct))


def _job_detail(status: int, struct: Any) -> str:
    details = {
        lib.TCCP_ERR_TRUNCATED: "the file ends before the image does",
        lib.TCCP_ERR_TOO_LARGE: "more than 16 TiB",
        lib.TCCP_ERR_TAGS_ALTERED: "the tags of the chunks are not those that the header's root covers",
        lib.TCCP_ERR_TAGS_ZEROED: "tags of chunks are all zeros: never written, or wiped",
        lib.TCCP_ERR_CHUNK_ALTERED: f"chunk {struct.chunk} is not the one that was sealed at its place",
        lib.TCCP_ERR_CHUNK_MOVED: f"chunk {struct.chunk} holds the data of chunk {struct.moved_from}",
        lib.TCCP_ERR_MALFORMED: f"chunk {struct.chunk} was sealed with something behind the image's end",
    }
    return details.get(status, "")
