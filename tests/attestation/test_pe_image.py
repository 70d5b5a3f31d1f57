"""Images as firmware measures them: a real kernel, and files that are none."""

import hashlib
import struct

import pytest

from tccp.attestation.boot_predict import BootFiles, BootPath, predict_boot, predict_unified
from tccp.attestation.event_data import EventType
from tccp.attestation.pe_image import as_qemu_loads, authenticode_hash, sections
from tccp.errors import EvidenceError
from tests.support.guest import guest_kernel

ABOVE_4G = 2


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return guest_kernel().read_bytes()


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_everything_but_the_checksum_and_the_signature_is_measured(kernel: bytes) -> None:
    (pe_at,) = struct.unpack_from("<I", kernel, 0x3C)
    checksum, directory, measured = pe_at + 24 + 64, pe_at + 24 + 112 + 4 * 8, pe_at + 24 + 60
    whole = authenticode_hash(kernel)

    def altered(at: int) -> bytes:
        return kernel[:at] + bytes([kernel[at] ^ 1]) + kernel[at + 1 :]

    assert authenticode_hash(altered(checksum)) == whole
    assert authenticode_hash(altered(directory)) == whole
    assert authenticode_hash(altered(measured - 4)) != whole
    _, signature_bytes = struct.unpack_from("<II", kernel, directory)
    assert signature_bytes > 0
    assert authenticode_hash(altered(len(kernel) - 1)) == whole  # Debian's signature
    assert authenticode_hash(altered(len(kernel) - signature_bytes - 1)) != whole
    assert authenticode_hash(kernel, "sha384") != whole


@pytest.mark.parametrize("size", [0, 0x3F, 0x40, 0x100, 0x263])
def test_a_kernel_that_ends_early_is_none(kernel: bytes, size: int) -> None:
    with pytest.raises(EvidenceError, match="malformed: no Linux kernel"):
        as_qemu_loads(kernel[:size], initrd_bytes=0, memory_mib=256)
    with pytest.raises(EvidenceError, match="malformed"):
        authenticode_hash(kernel[:size])


def test_an_old_kernel_is_refused(kernel: bytes) -> None:
    old = kernel[:0x206] + struct.pack("<H", 0x20B) + kernel[0x208:]

    with pytest.raises(EvidenceError, match=r"boot protocol 2\.11"):
        as_qemu_loads(old, initrd_bytes=0, memory_mib=256)


def test_qemu_puts_the_initrd_as_high_as_kernel_and_memory_let_it(kernel: bytes) -> None:
    def place(kernel: bytes, memory_mib: int) -> int:
        loaded = as_qemu_loads(kernel, initrd_bytes=5000, memory_mib=memory_mib)
        at, size = struct.unpack_from("<II", loaded, 0x218)
        assert (size, at % 4096) == (5000, 0)
        return int(at)

    low_only = kernel[:0x236] + bytes([kernel[0x236] & ~ABOVE_4G]) + kernel[0x237:]
    low_only = low_only[:0x22C] + struct.pack("<I", 0x37FFFFFF) + low_only[0x230:]

    assert place(kernel, 256) == (256 * 2**20 - 0x28000 - 1 - 5000) & ~4095
    assert place(low_only, 256) == place(kernel, 256)  # the memory ends first
    assert place(low_only, 2048) == (0x37FFFFFF - 5000) & ~4095
    assert place(kernel, 2048) == (2048 * 2**20 - 0x28000 - 1 - 5000) & ~4095
    without = as_qemu_loads(kernel, initrd_bytes=0, memory_mib=256)
    assert without[0x218:0x220] == kernel[0x218:0x220]
    assert (without[0x210], without[0x211] & 0x80) == (0xB0, 0x80)


def test_an_initrd_without_room_is_not_loaded(kernel: bytes) -> None:
    low = kernel[:0x236] + bytes([kernel[0x236] & ~ABOVE_4G]) + kernel[0x237:]
    low = low[:0x22C] + struct.pack("<I", 4096) + low[0x230:]
    for content, initrd_bytes, memory_mib in ((kernel, 64 << 20, 64), (kernel, 1, 0), (low, 4096, 256)):
        with pytest.raises(EvidenceError, match="no room"):
            as_qemu_loads(content, initrd_bytes=initrd_bytes, memory_mib=memory_mib)


def test_what_is_predicted_of_each_way_to_boot(kernel: bytes) -> None:
    files = BootFiles(kernel, b"the initrd", "quiet", 256)

    stub = predict_boot(files, BootPath.STUB)
    qemu = predict_boot(files, BootPath.QEMU)
    grub = predict_boot(BootFiles(kernel, b"the initrd", "/vmlinuz quiet"), BootPath.GRUB)

    assert [(event.section, event.pcr) for event in stub] == [("kernel", 4), ("command_line", 9), ("initrd", 9)]
    assert stub[0].digest == authenticode_hash(kernel)
    assert stub[1].digest == sha256("quiet\0".encode("utf-16-le"))
    assert stub[2].digest == sha256(b"the initrd")
    assert qemu[0].digest == authenticode_hash(as_qemu_loads(kernel, initrd_bytes=10, memory_mib=256))
    assert (qemu[1].line, qemu[2]) == ("quiet initrd=initrd", stub[2])
    assert [(event.section, event.pcr, event.digest) for event in grub] == [
        ("kernel", 9, sha256(kernel)),
        ("command_line", 8, sha256(b"/vmlinuz quiet")),
        ("initrd", 9, sha256(b"the initrd")),
    ]
    assert predict_boot(BootFiles(), BootPath.GRUB) == ()
    assert len(predict_boot(BootFiles(kernel, memory_mib=256), BootPath.QEMU)) == 2


def test_a_kernel_alone_is_no_unified_image(kernel: bytes) -> None:
    assert ".text" in {section.name for section in sections(kernel)}
    with pytest.raises(EvidenceError, match=r"no section \.linux"):
        predict_unified(kernel)


def test_a_unified_image_is_predicted_by_its_sections(kernel: bytes) -> None:
    image = unified({".linux": kernel, ".cmdline": b"quiet\0", ".initrd": b"the initrd", ".other": b"x"})

    events = predict_unified(image)

    assert [event.digest for event in events if event.pcr == 4] == [authenticode_hash(image), authenticode_hash(kernel)]
    measured = [(".linux", kernel), (".cmdline", b"quiet\0"), (".initrd", b"the initrd")]
    expected = [digest for name, content in measured for digest in (sha256(name.encode() + b"\0"), sha256(content))]
    assert [event.digest for event in events if event.pcr == 11] == expected
    assert {event.event_type for event in events if event.pcr == 11} == {EventType.EV_IPL}
    assert [event.line for event in events if event.section == "command_line"] == ["quiet"]
    assert [event.digest for event in events if event.section == "initrd"] == [sha256(b"the initrd")]


def test_an_image_of_32_bits_has_its_fields_elsewhere() -> None:
    plain, wide = unified({".text": b"code"}, magic=0x10B), unified({".text": b"code"})
    size_at = 64 + 24 + 96 + 4 * 8 + 4  # of the directory of signatures

    assert plain[: 64 + 24] == wide[: 64 + 24]
    altered = plain[: size_at - 4] + b"\x99" * 4 + plain[size_at:]
    assert authenticode_hash(altered) == authenticode_hash(plain)
    wide_altered = wide[: size_at - 4] + b"\x99" * 4 + wide[size_at:]
    assert authenticode_hash(wide_altered) != authenticode_hash(wide)


def test_what_stands_behind_the_sections_and_before_the_signature_is_measured() -> None:
    image, size_at = unified({".text": b"code", ".bss": b""}), 64 + 24 + 112 + 4 * 8 + 4
    whole = image + b"more" + b"SIGNED"
    signed = whole[:size_at] + struct.pack("<I", 6) + whole[size_at + 4 :]

    assert authenticode_hash(image + b"more") != authenticode_hash(image)
    assert authenticode_hash(signed) == authenticode_hash(image + b"more")


def test_an_image_that_reaches_beyond_itself_is_none() -> None:
    image = unified({".text": b"code"})
    for at, value in ((64 + 24, 0x10C), (64 + 24 + 60, len(image) + 1), (64 + 24 + 240 + 16, len(image)), (64 + 6, 97)):
        size = 2 if at in {64 + 24, 64 + 6} else 4
        with pytest.raises(EvidenceError, match="malformed"):
            authenticode_hash(image[:at] + value.to_bytes(size, "little") + image[at + size :])


def unified(contents: dict[str, bytes], *, magic: int = 0x20B) -> bytes:
    """A PE32+ image of nothing but these sections."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, magic)
    headers_end = 64 + 24 + len(optional) + 40 * len(contents)
    struct.pack_into("<I", optional, 60, headers_end)
    table, body = b"", b""
    for name, content in contents.items():
        start = headers_end + len(body)
        table += struct.pack("<8sIIII16x", name.encode(), len(content), 0, len(content), start)
        body += content
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, len(contents), len(optional), 0)
    return dos + coff + bytes(optional) + table + body
