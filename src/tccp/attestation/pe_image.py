"""Images that firmware starts, and what it measures of them: the Authenticode hash of PE files.

The hash is of everything but the signature and the two fields that change with it, so an image has the same one signed
and unsigned. It is what the digests of EV_EFI_BOOT_SERVICES_APPLICATION in PCR 4 are.

Source: Microsoft, Windows Authenticode Portable Executable Signature Format, 1.0, "Calculating the PE Image Hash"; PE
Format. Linux, Documentation/arch/x86/boot.rst, and QEMU's x86_load_linux for kernels that QEMU hands over.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tccp.errors import EvidenceError

SECTIONS_MAX = 96
_PE32, _PE32_PLUS = 0x10B, 0x20B
# Where the header of a Linux kernel begins to say what it is.
_HEADER_MAGIC_AT = 0x202
_ABOVE_4G = 1 << 1
_LOADER_QEMU = 0xB0
_CAN_USE_HEAP = 0x80
_REAL_MODE_AT, _COMMAND_LINE_AT = 0x10000, 0x20000
_ACPI_BYTES = 0x20000 + 0x8000


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an image: ``.linux``, ``.initrd``, ``.cmdline`` in a unified kernel image."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parts that matter to the hash lie."""

    checksum_at: int
    directory_at: int
    headers_end: int
    signature_bytes: int
    sections: tuple[tuple[bytes, int, int, int], ...]  # name, virtual size, raw offset, raw size


def authenticode_hash(image: bytes, hash_name: str = "sha256") -> bytes:
    """What firmware measures when it starts *image*.

    Raises:
        EvidenceError: ``malformed``: it is no PE image.
    """
    layout = _layout(image)
    digest = hashlib.new(hash_name)
    digest.update(image[: layout.checksum_at])
    digest.update(image[layout.checksum_at + 4 : layout.directory_at])
    digest.update(image[layout.directory_at + 8 : layout.headers_end])
    hashed = layout.headers_end
    for _, _, start, size in sorted(layout.sections, key=lambda section: section[2]):
        if size:
            digest.update(image[start : start + size])
            hashed += size
    end = len(image) - layout.signature_bytes
    if hashed < end:
        digest.update(image[hashed:end])
    return digest.digest()


def sections(image: bytes) -> Iterator[Section]:
    """The sections of an image, with as much of each as is loaded.

    Raises:
        EvidenceError: ``malformed``: it is no PE image.
    """
    for name, loaded, start, size in _layout(image).sections:
        text = name.rstrip(b"\0").decode("ascii", "backslashreplace")
        yield Section(text, image[start : start + min(size, loaded or size)])


def as_qemu_loads(kernel: bytes, *, initrd_bytes: int, memory_mib: int) -> bytes:
    """A kernel as QEMU hands it to firmware with ``-kernel``: it fills the boot loader's fields of the header in.

    Args:
        initrd_bytes: Size of the initrd; 0 without one.
        memory_mib: The machine's memory, below the 2 or 3 GiB that lie under the hole for devices.

    Raises:
        EvidenceError: ``malformed``: it is no Linux kernel of boot protocol 2.12 or later, or the initrd has no room
            where kernel and memory let it lie.
    """
    if len(kernel) < 0x264 or kernel[_HEADER_MAGIC_AT : _HEADER_MAGIC_AT + 4] != b"HdrS":
        raise EvidenceError("malformed", "no Linux kernel")
    (protocol,) = struct.unpack_from("<H", kernel, 0x206)
    if protocol < 0x20C:
        raise EvidenceError("malformed", f"a kernel of boot protocol {protocol >> 8}.{protocol & 0xFF}")
    patched = bytearray(kernel)
    patched[0x210] = _LOADER_QEMU
    patched[0x211] |= _CAN_USE_HEAP
    struct.pack_into("<H", patched, 0x224, _COMMAND_LINE_AT - _REAL_MODE_AT - 0x200)
    struct.pack_into("<I", patched, 0x228, _COMMAND_LINE_AT)
    if initrd_bytes:
        (limit,) = struct.unpack_from("<I", kernel, 0x22C)
        (flags,) = struct.unpack_from("<H", kernel, 0x236)
        highest = 0xFFFFFFFF if flags & _ABOVE_4G else limit
        highest = min(highest, (memory_mib << 20) - _ACPI_BYTES - 1)
        if initrd_bytes >= highest:
            raise EvidenceError("malformed", f"an initrd of {initrd_bytes} bytes has no room below {max(highest, 0)}")
        struct.pack_into("<II", patched, 0x218, (highest - initrd_bytes) & ~4095, initrd_bytes)
    return bytes(patched)


def _layout(image: bytes) -> _Layout:
    try:
        return _read_layout(image)
    except struct.error:
        raise EvidenceError("malformed", "no PE image, or it ends too early") from None


def _read_layout(image: bytes) -> _Layout:
    (pe_at,) = struct.unpack_from("<I", image, 0x3C)
    if image[:2] != b"MZ" or image[pe_at : pe_at + 4] != b"PE\0\0":
        raise EvidenceError("malformed", "no PE image")
    count, optional_bytes = struct.unpack_from("<H12xH", image, pe_at + 6)
    optional_at = pe_at + 24
    (magic,) = struct.unpack_from("<H", image, optional_at)
    if magic not in {_PE32, _PE32_PLUS} or count > SECTIONS_MAX:
        raise EvidenceError("malformed", "no PE image that firmware would start")
    (headers_end,) = struct.unpack_from("<I", image, optional_at + 60)
    directories_at = optional_at + (96 if magic == _PE32 else 112)
    directory_at = directories_at + 4 * 8
    _, signature_bytes = struct.unpack_from("<II", image, directory_at)
    first = optional_at + optional_bytes
    found = []
    for number in range(count):
        name, loaded, _, size, start = struct.unpack_from("<8sIIII", image, first + 40 * number)
        if start + size > len(image):
            raise EvidenceError("malformed", f"section {number} runs past the end of the image")
        found.append((name, loaded, start, size))
    if not directory_at + 8 <= headers_end <= len(image) or signature_bytes > len(image) - headers_end:
        raise EvidenceError("malformed", "headers or signature run past the end of the image")
    return _Layout(optional_at + 64, directory_at, headers_end, signature_bytes, tuple(found))
