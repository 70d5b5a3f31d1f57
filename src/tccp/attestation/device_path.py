"""UEFI device paths as text, for people: from where firmware loaded an image.

The text follows the UEFI Specification 2.10, 10.6.1.6, for the nodes that disks, networks and firmware volumes have,
and falls back to ``Path(type,subtype,hex)``, which that section provides for all others.
"""

import ipaddress
import struct
import uuid
from collections.abc import Callable

_END, _END_ENTIRE = 0x7F, 0xFF
_ACPI_PNP = 0x41D0  # the compressed "PNP" in the lower half of an ACPI _HID
_TEXT_NODES_MAX = 128
_HEX_BYTES_MAX = 32


def device_path_text(path: bytes) -> str:
    """The text of a device path; what cannot be read is shown as ``?``. Never raises."""
    nodes: list[str] = []
    at = 0
    while at < len(path) and len(nodes) < _TEXT_NODES_MAX:
        if len(path) - at < 4:
            return "/".join([*nodes, "?"])
        kind, subkind, size = struct.unpack_from("<BBH", path, at)
        if size < 4 or size > len(path) - at:
            return "/".join([*nodes, "?"])
        if kind == _END and subkind == _END_ENTIRE:
            break
        nodes.append("," if kind == _END else _node_text(kind, subkind, path[at + 4 : at + size]))
        at += size
    return "/".join(nodes)


def _node_text(kind: int, subkind: int, body: bytes) -> str:
    reader = _NODES.get((kind, subkind))
    if reader is not None:
        try:
            return reader(body)
        except (struct.error, ValueError):
            pass  # shorter than its kind asks for: show the bytes
    return f"Path({kind},{subkind},{body[:_HEX_BYTES_MAX].hex()})"


def utf16_text(data: bytes) -> str:
    """UTF-16 up to its first NUL; what is no text becomes U+FFFD."""
    return data[: len(data) & ~1].decode("utf-16-le", errors="replace").partition("\0")[0]


def _pci(body: bytes) -> str:
    function, device = struct.unpack_from("<BB", body)
    return f"Pci(0x{device:X},0x{function:X})"


def _acpi(body: bytes) -> str:
    hid, uid = struct.unpack_from("<II", body)
    if hid & 0xFFFF != _ACPI_PNP:
        return f"Acpi(0x{hid:08X},0x{uid:X})"
    product = hid >> 16
    root = {0x0A03: "PciRoot", 0x0A08: "PcieRoot"}.get(product)
    return f"{root}(0x{uid:X})" if root else f"Acpi(PNP{product:04X},0x{uid:X})"


def _hard_drive(body: bytes) -> str:
    number, start, size = struct.unpack_from("<IQQ", body)
    signature, _, signature_type = struct.unpack_from("<16sBB", body, 20)
    if signature_type == 2:
        return f"HD({number},GPT,{_guid(signature)},0x{start:X},0x{size:X})"
    return f"HD({number},MBR,0x{int.from_bytes(signature[:4], 'little'):08X},0x{start:X},0x{size:X})"


def _guid(body: bytes) -> str:
    return str(uuid.UUID(bytes_le=body[:16])).upper()


def _scsi(body: bytes) -> str:
    target, unit = struct.unpack_from("<HH", body)
    return f"Scsi(0x{target:X},0x{unit:X})"


def _usb(body: bytes) -> str:
    port, interface = struct.unpack_from("<BB", body)
    return f"USB(0x{port:X},0x{interface:X})"


def _sata(body: bytes) -> str:
    port, multiplier, unit = struct.unpack_from("<HHH", body)
    return f"Sata(0x{port:X},0x{multiplier:X},0x{unit:X})"


def _nvme(body: bytes) -> str:
    namespace, identifier = struct.unpack_from("<I8s", body)
    return f"NVMe(0x{namespace:X},{'-'.join(f'{byte:02X}' for byte in reversed(identifier))})"


def _mac(body: bytes) -> str:
    address, kind = struct.unpack_from("<32sB", body)
    return f"MAC({address[:6].hex().upper()},0x{kind:X})"


def _ipv4(body: bytes) -> str:
    _, remote = struct.unpack_from("<4s4s", body)
    return f"IPv4({ipaddress.IPv4Address(remote)})"


def _ipv6(body: bytes) -> str:
    _, remote = struct.unpack_from("<16s16s", body)
    return f"IPv6({ipaddress.IPv6Address(remote)})"


def _cdrom(body: bytes) -> str:
    entry, start, size = struct.unpack_from("<IQQ", body)
    return f"CDROM(0x{entry:X},0x{start:X},0x{size:X})"


def _offset_range(body: bytes) -> str:
    _, start, end = struct.unpack_from("<IQQ", body)
    return f"Offset(0x{start:X},0x{end:X})"


# (type, subtype) -> text; UEFI Specification 2.10, 10.3.
_NODES: dict[tuple[int, int], Callable[[bytes], str]] = {
    (0x01, 0x01): _pci,
    (0x01, 0x04): lambda body: f"VenHw({_guid(body)})",
    (0x02, 0x01): _acpi,
    (0x03, 0x02): _scsi,
    (0x03, 0x05): _usb,
    (0x03, 0x0A): lambda body: f"VenMsg({_guid(body)})",
    (0x03, 0x0B): _mac,
    (0x03, 0x0C): _ipv4,
    (0x03, 0x0D): _ipv6,
    (0x03, 0x12): _sata,
    (0x03, 0x17): _nvme,
    (0x03, 0x18): lambda body: f"Uri({body.decode('utf-8', errors='replace')})",
    (0x04, 0x01): _hard_drive,
    (0x04, 0x02): _cdrom,
    (0x04, 0x03): lambda body: f"VenMedia({_guid(body)})",
    (0x04, 0x04): utf16_text,
    (0x04, 0x06): lambda body: f"FvFile({_guid(body)})",
    (0x04, 0x07): lambda body: f"Fv({_guid(body)})",
    (0x04, 0x08): _offset_range,
}
