"""Device paths as UEFI writes them, node by node: numbers have no sign, and nothing foreign is taken for a text."""

import struct
import uuid

import pytest

from tccp.attestation.device_path import device_path_text, utf16_text

GUID = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
END, END_OF_INSTANCE = b"\x7f\xff\x04\x00", b"\x7f\x01\x04\x00"
MANY = (1 << 64) - 1


def node(kind: int, subkind: int, body: bytes) -> bytes:
    return struct.pack("<BBH", kind, subkind, 4 + len(body)) + body


PCI = node(1, 1, b"\x00\x1f")


@pytest.mark.parametrize(
    ("kind", "subkind", "body", "text"),
    [
        (1, 1, b"\xfe\xff", "Pci(0xFF,0xFE)"),
        (1, 4, GUID.bytes_le + b"more", f"VenHw({str(GUID).upper()})"),
        (2, 1, struct.pack("<II", 0x0A0341D0, 0xFFFFFFFF), "PciRoot(0xFFFFFFFF)"),
        (2, 1, struct.pack("<II", 0x0A0841D0, 1), "PcieRoot(0x1)"),
        (2, 1, struct.pack("<II", 0x060441D0, 2), "Acpi(PNP0604,0x2)"),
        (2, 1, struct.pack("<II", 0xFFFF1234, 3), "Acpi(0xFFFF1234,0x3)"),
        (3, 2, b"\xff\xff\xfe\xff", "Scsi(0xFFFF,0xFFFE)"),
        (3, 5, b"\xff\xfe", "USB(0xFF,0xFE)"),
        (3, 0x0B, b"\xaa\xbb\xcc\xdd\xee\xff".ljust(32, b"\0") + b"\xfe", "MAC(AABBCCDDEEFF,0xFE)"),
        (3, 0x0C, b"\x0a\0\0\1" + b"\x0a\0\0\2", "IPv4(10.0.0.2)"),
        (3, 0x0D, bytes(16) + bytes(15) + b"\1", "IPv6(::1)"),
        (3, 0x12, b"\xff\xff\xfe\xff\xfd\xff", "Sata(0xFFFF,0xFFFE,0xFFFD)"),
        (3, 0x17, struct.pack("<I", 0xFFFFFFFF) + bytes(range(8)), "NVMe(0xFFFFFFFF,07-06-05-04-03-02-01-00)"),
        (3, 0x18, "https://x/\u00e9".encode(), "Uri(https://x/\u00e9)"),
        (
            *(4, 1, struct.pack("<IQQ", 0xFFFFFFFF, MANY, MANY - 1) + GUID.bytes_le + b"\x02\x02"),
            f"HD(4294967295,GPT,{str(GUID).upper()},0xFFFFFFFFFFFFFFFF,0xFFFFFFFFFFFFFFFE)",
        ),
        (
            *(4, 1, struct.pack("<IQQ", 1, 2, 3) + b"\x04\x03\x02\xff\x99".ljust(16, b"\0") + b"\x01\x01"),
            "HD(1,MBR,0xFF020304,0x2,0x3)",
        ),
        (4, 2, struct.pack("<IQQ", 0xFFFFFFFF, MANY, 1), "CDROM(0xFFFFFFFF,0xFFFFFFFFFFFFFFFF,0x1)"),
        (4, 4, "\\\\EFI\\\\x.efi\0behind".encode("utf-16-le"), "\\\\EFI\\\\x.efi"),
        (4, 8, struct.pack("<IQQ", 0xFFFFFFFF, MANY, 1), "Offset(0xFFFFFFFFFFFFFFFF,0x1)"),
        (9, 9, bytes(range(40)), f"Path(9,9,{bytes(range(32)).hex()})"),
    ],
)
def test_a_node_is_said_as_uefi_says_it(kind: int, subkind: int, body: bytes, text: str) -> None:
    assert device_path_text(node(kind, subkind, body) + END) == text
    assert device_path_text(PCI + node(kind, subkind, body)) == f"Pci(0x1F,0x0)/{text}"


def test_a_path_has_instances_and_one_end() -> None:
    assert device_path_text(PCI + END_OF_INSTANCE + PCI + END + PCI) == "Pci(0x1F,0x0)/,/Pci(0x1F,0x0)"
    # Not the kind that ends a path, though its other number is the same.
    assert device_path_text(node(1, 0xFF, b"") + PCI) == "Path(1,255,)/Pci(0x1F,0x0)"


@pytest.mark.parametrize("cut", [b"\x01", b"\x01\x01\x06", b"\x01\x01\x03\x00", b"\x01\x01\x07\x00\x00\x1f"])
def test_what_does_not_fit_is_a_question(cut: bytes) -> None:
    assert device_path_text(cut) == "?"
    assert device_path_text(PCI + PCI + cut) == "Pci(0x1F,0x0)/Pci(0x1F,0x0)/?"


def test_text_is_whole_characters_up_to_the_first_nul() -> None:
    assert utf16_text("abc".encode("utf-16-le") + b"d") == "abc"
    assert utf16_text(b"a\0b\0\0\0c\0") == "ab"
    assert utf16_text(b"\x00\xd8") == "\ufffd"
    assert utf16_text(b"a") == ""
