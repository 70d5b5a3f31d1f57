"""Images as firmware measures them: a real kernel, and files that are none."""

import hashlib
import struct

import pytest

from tccp.attestation.boot_predict import BootFiles, BootPath, PredictedEvent, predict_boot, predict_unified
from tccp.attestation.event_data import EventType
from tccp.attestation.pe_image import as_qemu_loads, authenticode_hash, sections
from tccp.errors import ConfigError, EvidenceError
from tccp.model import PcrBank
from tests.support.guest import guest_kernel

ABOVE_4G = 2
STARTED, READ = EventType.EV_EFI_BOOT_SERVICES_APPLICATION, EventType.EV_IPL
TAGGED = EventType.EV_EVENT_TAG


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

    with pytest.raises(EvidenceError, match=r"boot protocol 2\.11") as refused:
        as_qemu_loads(old, initrd_bytes=0, memory_mib=256)
    assert refused.value.reason == "malformed"


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


def test_qemu_fills_in_these_fields_and_no_others() -> None:
    header = bytearray(b"\x11" * 0x264)
    header[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20C)
    header[0x236:0x238] = struct.pack("<H", ABOVE_4G)
    expected = bytearray(header)
    expected[0x210], expected[0x211] = 0xB0, 0x91
    expected[0x224:0x226] = struct.pack("<H", 0xFE00)
    expected[0x228:0x22C] = struct.pack("<I", 0x20000)
    assert as_qemu_loads(bytes(header), initrd_bytes=0, memory_mib=256) == expected

    expected[0x218:0x220] = struct.pack("<II", 0xFFFFFFFF & ~4095, 1)
    assert as_qemu_loads(bytes(header), initrd_bytes=1, memory_mib=8192) == expected
    expected[0x218:0x220] = struct.pack("<II", (1 << 20) - 0x28000 - 4096, 4095)
    assert as_qemu_loads(bytes(header), initrd_bytes=4095, memory_mib=1) == expected
    expected[0x218:0x220] = struct.pack("<II", (1 << 20) - 0x28000 - 8192, 4096)
    assert as_qemu_loads(bytes(header), initrd_bytes=4096, memory_mib=1) == expected
    with pytest.raises(EvidenceError, match="no Linux kernel"):
        as_qemu_loads(bytes(header[:-1]), initrd_bytes=0, memory_mib=256)


def test_an_initrd_that_has_no_room_in_the_memory_is_refused(kernel: bytes) -> None:
    room = (16 << 20) - 0x28000 - 1
    as_qemu_loads(kernel, initrd_bytes=room, memory_mib=16)

    for initrd_bytes, memory_mib in ((room + 1, 16), (1, 0), (1 << 32, 8192)):
        with pytest.raises(ConfigError) as refused:
            as_qemu_loads(kernel, initrd_bytes=initrd_bytes, memory_mib=memory_mib)
        assert refused.value.reason == "initrd_too_large"
    low = kernel[:0x236] + bytes([kernel[0x236] & ~ABOVE_4G]) + kernel[0x237:]
    low = low[:0x22C] + struct.pack("<I", 4096) + low[0x230:]
    with pytest.raises(ConfigError, match="no room"):
        as_qemu_loads(low, initrd_bytes=4097, memory_mib=256)


def test_what_is_predicted_of_each_way_to_boot(kernel: bytes) -> None:
    files = BootFiles(kernel, b"the initrd", "quiet", 256)

    stub = predict_boot(files, BootPath.STUB)
    qemu = predict_boot(files, BootPath.QEMU)
    grub = predict_boot(BootFiles(kernel, b"the initrd", "/vmlinuz quiet"), BootPath.GRUB)

    assert stub == (
        PredictedEvent("kernel", 4, STARTED, authenticode_hash(kernel), "kernel"),
        PredictedEvent("command_line", 9, TAGGED, sha256("quiet\0".encode("utf-16-le")), "command line", "quiet"),
        PredictedEvent("initrd", 9, TAGGED, sha256(b"the initrd"), "initrd"),
    )
    assert qemu[0].digest == authenticode_hash(as_qemu_loads(kernel, initrd_bytes=10, memory_mib=256))
    assert (qemu[1].line, qemu[2]) == ("quiet initrd=initrd", stub[2])
    assert grub == (
        PredictedEvent("kernel", 9, READ, sha256(kernel), "kernel"),
        PredictedEvent("command_line", 8, READ, sha256(b"/vmlinuz quiet"), "command line", "/vmlinuz quiet"),
        PredictedEvent("initrd", 9, READ, sha256(b"the initrd"), "initrd"),
    )
    assert predict_boot(BootFiles(), BootPath.GRUB) == ()
    without = predict_boot(BootFiles(kernel, command_line="quiet", memory_mib=256), BootPath.QEMU)
    assert [(event.section, event.line) for event in without] == [("kernel", ""), ("command_line", "quiet")]


def test_digests_are_predicted_in_the_bank_that_is_asked_for(kernel: bytes) -> None:
    image, files = unified({".linux": kernel}), BootFiles(kernel, b"the initrd", "quiet", 256)
    predictions = [predict_boot(files, path, PcrBank.SHA384) for path in BootPath]

    for events in (*predictions, predict_unified(image, PcrBank.SHA384)):
        assert {len(event.digest) for event in events} == {48}
    assert predictions[0][0].digest == authenticode_hash(kernel, "sha384")
    assert [event.digest for event in predict_unified(image, PcrBank.SHA384) if event.pcr == 4] == [
        authenticode_hash(image, "sha384"),
        authenticode_hash(kernel, "sha384"),
    ]


def test_a_kernel_alone_is_no_unified_image(kernel: bytes) -> None:
    assert ".text" in {section.name for section in sections(kernel)}
    with pytest.raises(EvidenceError, match=r"no section \.linux") as refused:
        predict_unified(kernel)
    assert refused.value.reason == "malformed"


def test_a_unified_image_is_predicted_by_its_sections(kernel: bytes) -> None:
    image = unified({".linux": kernel, ".cmdline": b"quiet\0", ".initrd": b"the initrd", ".other": b"x"})

    events = predict_unified(image)

    inside = "kernel inside, without secure boot"
    assert [event for event in events if event.pcr == 4] == [
        PredictedEvent("boot_loader", 4, STARTED, authenticode_hash(image), "unified kernel image"),
        PredictedEvent("kernel", 4, STARTED, authenticode_hash(kernel), inside),
    ]
    measured = [(".linux", kernel), (".cmdline", b"quiet\0"), (".initrd", b"the initrd")]
    expected = [digest for name, content in measured for digest in (sha256(name.encode() + b"\0"), sha256(content))]
    assert [event.digest for event in events if event.pcr == 11] == expected
    assert {(event.section, event.event_type) for event in events if event.pcr == 11} == {("pcr11", READ)}
    assert [event.title for event in events if event.pcr == 11][:3] == [
        *(".linux: name", ".linux: contents", ".cmdline: name")
    ]
    assert [event.line for event in events if event.section == "command_line"] == ["quiet"]
    assert [event.digest for event in events if event.section == "initrd"] == [sha256(b"the initrd")]


def test_a_unified_image_may_have_neither_command_line_nor_initrd(kernel: bytes) -> None:
    odd = predict_unified(unified({".linux": kernel, ".cmdline": b"X\xff\0\0"}))

    assert [event.line for event in predict_unified(unified({".linux": kernel})) if event.pcr == 9] == [""]
    assert [event.line for event in odd if event.pcr == 9] == ["X\ufffd"]


def test_of_a_section_as_much_counts_as_is_loaded() -> None:
    image = unified({".text": b"code", ".X\xff": b"more"}, encoding="latin-1")
    loaded_at = 64 + 24 + 240 + 8

    assert [(one.name, one.content) for one in sections(image)] == [(".text", b"code"), (".X\\xff", b"more")]
    for loaded, content in ((0, b"code"), (3, b"cod"), (4, b"code"), (5, b"code")):
        other = image[:loaded_at] + struct.pack("<I", loaded) + image[loaded_at + 4 :]
        assert next(iter(sections(other))).content == content


def test_an_image_of_32_bits_has_its_fields_elsewhere() -> None:
    plain, wide = unified({".text": b"code"}, magic=0x10B), unified({".text": b"code"})
    size_at = 64 + 24 + 96 + 4 * 8 + 4  # of the directory of signatures

    assert plain[: 64 + 24] == wide[: 64 + 24]
    altered = plain[: size_at - 4] + b"\x99" * 4 + plain[size_at:]
    assert authenticode_hash(altered) == authenticode_hash(plain)
    wide_altered = wide[: size_at - 4] + b"\x99" * 4 + wide[size_at:]
    assert authenticode_hash(wide_altered) != authenticode_hash(wide)


def test_every_other_byte_is_measured_in_the_order_of_the_file() -> None:
    image = unified({".a": b"first", ".b": b"the second", ".c": b"3rd"})
    table, third, end = 64 + 24 + 240, 64 + 24 + 240 + 80, 64 + 24 + 240 + 120
    swapped = image[:table] + image[third:end] + image[table:third] + image[end:]
    for whole in (image, swapped, image + b"behind"):
        checksum, directory = 64 + 24 + 64, 64 + 24 + 112 + 4 * 8
        measured = whole[:checksum] + whole[checksum + 4 : directory] + whole[directory + 8 :]
        assert authenticode_hash(whole) == sha256(measured)


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


def test_a_size_beyond_two_gib_is_no_negative_one() -> None:
    image = unified({".text": b"code"})
    optional, section = 64 + 24, 64 + 24 + 240
    for at, value in ((0x3C, 1 << 32), (optional + 60, 1 << 32), (optional + 112 + 4 * 8 + 4, 1 << 31)):
        size = (value - 64 if at == 0x3C else value - 1).to_bytes(4, "little")
        with pytest.raises(EvidenceError, match="malformed"):
            authenticode_hash(image[:at] + size + image[at + 4 :])
    for at in (section + 16, section + 20):
        with pytest.raises(EvidenceError, match="malformed"):
            authenticode_hash(image[:at] + b"\xff\xff\xff\xff" + image[at + 4 :])
    with pytest.raises(EvidenceError, match="malformed"):
        authenticode_hash(b"ZM" + image[2:])


def test_headers_and_signature_have_room_for_one_another() -> None:
    image, optional = unified({}), 64 + 24
    signature = optional + 112 + 4 * 8 + 4

    def with_sizes(headers: int, signed: int, more: bytes = b"") -> bytes:
        made = bytearray(image + more)
        struct.pack_into("<I", made, optional + 60, headers)
        struct.pack_into("<I", made, signature, signed)
        return bytes(made)

    for fits in (with_sizes(len(image), 0), with_sizes(len(image), 3, b"abc"), with_sizes(signature + 4, 0)):
        authenticode_hash(fits)
    for does_not in (
        with_sizes(len(image) + 1, 0),
        with_sizes(len(image), 4, b"abc"),
        with_sizes(signature + 3, 0),
        with_sizes(signature + 4, len(image)),
    ):
        with pytest.raises(EvidenceError, match="headers or signature"):
            authenticode_hash(does_not)


def unified(contents: dict[str, bytes], *, magic: int = 0x20B, encoding: str = "ascii") -> bytes:
    """A PE32+ image of nothing but these sections."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, magic)
    headers_end = 64 + 24 + len(optional) + 40 * len(contents)
    struct.pack_into("<I", optional, 60, headers_end)
    table, body = b"", b""
    for name, content in contents.items():
        start = headers_end + len(body)
        table += struct.pack("<8sIIII16x", name.encode(encoding), len(content), 0, len(content), start)
        body += content
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, len(contents), len(optional), 0)
    return dos + coff + bytes(optional) + table + body
