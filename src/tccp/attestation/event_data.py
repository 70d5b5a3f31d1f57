"""What the data of firmware events says, as typed values.

Everything here is decoded from claims: it is as trustworthy as the event it came from (see `event_log`), and its
strings may hold any character. `tccp.printable.escape` makes them safe to show. Decoding never raises: data that is
not what its type promises becomes `Unknown`.

Source: TCG PC Client Platform Firmware Profile (PFP) 1.06, section 10; UEFI Specification 2.10 for partition tables.
"""

import enum
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from tccp.attestation.device_path import device_path_text, utf16_text
from tccp.attestation.firmware_variable import FirmwareVariable, decode_firmware_variable

TEXT_BYTES_MAX = 65536
PARTITIONS_MAX = 128


class EventType(enum.IntEnum):
    """Event types (PFP 1.06, 10.4.1)."""

    EV_PREBOOT_CERT = 0x00
    EV_POST_CODE = 0x01
    EV_NO_ACTION = 0x03
    EV_SEPARATOR = 0x04
    EV_ACTION = 0x05
    EV_EVENT_TAG = 0x06
    EV_S_CRTM_CONTENTS = 0x07
    EV_S_CRTM_VERSION = 0x08
    EV_CPU_MICROCODE = 0x09
    EV_PLATFORM_CONFIG_FLAGS = 0x0A
    EV_TABLE_OF_DEVICES = 0x0B
    EV_COMPACT_HASH = 0x0C
    EV_IPL = 0x0D
    EV_IPL_PARTITION_DATA = 0x0E
    EV_NONHOST_CODE = 0x0F
    EV_NONHOST_CONFIG = 0x10
    EV_NONHOST_INFO = 0x11
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12
    EV_POST_CODE2 = 0x13
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_GPT_EVENT2 = 0x8000000D
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


def event_type_name(number: int) -> str:
    """``EV_SEPARATOR``, or the number in hexadecimal for a type that the profile does not name."""
    try:
        return EventType(number).name
    except ValueError:
        return f"0x{number:08x}"


@dataclass(frozen=True, slots=True)
class FirmwareBlob:
    """A piece of firmware in memory. The digest is of its bytes, which the log does not hold."""

    description: str
    base: int
    size: int


@dataclass(frozen=True, slots=True)
class CrtmVersion:
    """The version of the code that measures first: text or a GUID, as the maker likes."""

    version: str


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that firmware started, and from where. The digest is the image's Authenticode hash."""

    base: int
    size: int
    device_path: str


@dataclass(frozen=True, slots=True)
class Partition:
    """An entry of a GUID partition table."""

    kind: uuid.UUID
    guid: uuid.UUID
    first_block: int
    last_block: int
    name: str


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """The partition table of the disk that was booted from."""

    disk: uuid.UUID
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class GrubCommand:
    """What GRUB ran (``grub_cmd``), or gave to a kernel (``kernel_cmdline``) or a module (``module_cmdline``)."""

    keyword: str
    text: str


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """The name of a file that a boot loader read, or of a variable such as MokList. The digest is its contents'."""

    name: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A kernel command line, in UTF-16, from systemd-boot or systemd's stub."""

    text: str


@dataclass(frozen=True, slots=True)
class TaggedEvent:
    """An event of the operating system's own numbering (Linux, Windows, an attestation agent)."""

    tag: int
    data: bytes

    @property
    def text(self) -> str:
        """The data as text."""
        return _text(self.data)


@dataclass(frozen=True, slots=True)
class Separator:
    """The line between firmware and what it starts, in each of PCRs 0 to 7."""

    value: bytes

    @property
    def is_error(self) -> bool:
        """Firmware measured an error instead (PFP 1.06, 3.3.2.2)."""
        return self.value not in {b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"}


@dataclass(frozen=True, slots=True)
class Action:
    """Something that firmware says it did: ``Exit Boot Services Invocation``."""

    text: str


@dataclass(frozen=True, slots=True)
class StartupLocality:
    """From which locality the TPM was started; PCR 0 begins with it."""

    locality: int


@dataclass(frozen=True, slots=True)
class ReferenceManifest:
    """A pointer to the maker's reference values (``SP800-155 Event``). Extends nothing: a hint, no more."""

    manufacturer: int
    manifest: uuid.UUID


@dataclass(frozen=True, slots=True)
class NoAction:
    """Any other information that extends nothing."""

    signature: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Description:
    """Text beside a digest of something that is not in the log: ``ACPI DATA``."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Data of a type that is not decoded, or that is not what its type promises."""

    data: bytes


EventData = (
    FirmwareBlob
    | CrtmVersion
    | FirmwareVariable
    | LoadedImage
    | PartitionTable
    | GrubCommand
    | LoadedFile
    | CommandLine
    | TaggedEvent
    | Separator
    | Action
    | StartupLocality
    | ReferenceManifest
    | NoAction
    | Description
    | Unknown
)


def decode_event_data(claimed_type: int, data: bytes) -> EventData:
    """What *data* says if the event is of *claimed_type*; `Unknown` when it does not fit."""
    decoder = _DECODERS.get(claimed_type)
    if decoder is None:
        return Unknown(data)
    try:
        return decoder(data)
    except (struct.error, ValueError):
        return Unknown(data)


def _text(data: bytes) -> str:
    return data[:TEXT_BYTES_MAX].rstrip(b"\0").decode("utf-8", errors="replace")


def _looks_like_utf16(data: bytes) -> bool:
    return len(data) >= 2 and data[0] != 0 and data[1] == 0


def _blob(data: bytes) -> EventData:
    if len(data) != 16:
        return Description(_text(data))
    return FirmwareBlob("", *struct.unpack("<QQ", data))


def _blob2(data: bytes) -> EventData:
    size = data[0] if data else 0
    base, length = struct.unpack_from("<QQ", data, 1 + size)
    return FirmwareBlob(_text(data[1 : 1 + size]), base, length)


def _crtm_version(data: bytes) -> EventData:
    if _looks_like_utf16(data):
        return CrtmVersion(utf16_text(data[:TEXT_BYTES_MAX]))
    if len(data) == 16 and not data.rstrip(b"\0").isascii():
        return CrtmVersion(str(uuid.UUID(bytes_le=data)))
    return CrtmVersion(_text(data))


def _image(data: bytes) -> EventData:
    base, size, _, path_len = struct.unpack_from("<QQQQ", data)
    if path_len > len(data) - 32:
        return Unknown(data)
    return LoadedImage(base, size, device_path_text(data[32 : 32 + path_len]))


def _partition_table(data: bytes) -> EventData:
    disk = uuid.UUID(bytes_le=data[56:72])
    (entry_size,) = struct.unpack_from("<I", data, 84)
    (count,) = struct.unpack_from("<Q", data, 92)
    if count > PARTITIONS_MAX or entry_size < 128 or 100 + count * entry_size > len(data):
        return Unknown(data)
    entries = (data[at : at + 128] for at in range(100, 100 + count * entry_size, entry_size))
    return PartitionTable(disk, tuple(_partition(entry) for entry in entries))


def _partition(entry: bytes) -> Partition:
    kind, guid, first, last = struct.unpack_from("<16s16sQQ", entry)
    return Partition(uuid.UUID(bytes_le=kind), uuid.UUID(bytes_le=guid), first, last, utf16_text(entry[56:128]))


# Longest first: before 2.04 GRUB wrote no colon.
_GRUB_PREFIXES = {
    b"grub_cmd: ": "grub_cmd",
    b"kernel_cmdline: ": "kernel_cmdline",
    b"module_cmdline: ": "module_cmdline",
    b"grub_kernel_cmdline ": "kernel_cmdline",
    b"grub_cmd ": "grub_cmd",
}


def _boot_loader(data: bytes) -> EventData:
    if _looks_like_utf16(data):
        return CommandLine(utf16_text(data[:TEXT_BYTES_MAX]))
    text = data[:TEXT_BYTES_MAX].partition(b"\0")[0]
    for prefix, keyword in _GRUB_PREFIXES.items():
        if text.startswith(prefix):
            return GrubCommand(keyword, _text(text[len(prefix) :]))
    return LoadedFile(_text(text))


def _tagged(data: bytes) -> EventData:
    tag, size = struct.unpack_from("<II", data)
    if size > len(data) - 8:
        return Unknown(data)
    return TaggedEvent(tag, data[8 : 8 + size])


def _no_action(data: bytes) -> EventData:
    signature = _text(data[:16])
    if signature == "StartupLocality" and len(data) == 17:
        return StartupLocality(data[16])
    if signature.startswith("SP800-155 Event") and len(data) >= 36:
        manufacturer, manifest = struct.unpack_from("<I16s", data, 16)
        return ReferenceManifest(manufacturer, uuid.UUID(bytes_le=manifest))
    return NoAction(signature, data[16:])


def _action(data: bytes) -> EventData:
    return Action(_text(data))


def _description(data: bytes) -> EventData:
    text = data[:TEXT_BYTES_MAX].rstrip(b"\0")
    return Description(text.decode("ascii")) if text.isascii() and text.decode("ascii").isprintable() else Unknown(data)


_T = EventType
_DECODERS: dict[int, Callable[[bytes], EventData]] = {
    _T.EV_POST_CODE: _blob,
    _T.EV_NO_ACTION: _no_action,
    _T.EV_SEPARATOR: Separator,
    _T.EV_ACTION: _action,
    _T.EV_EVENT_TAG: _tagged,
    _T.EV_S_CRTM_CONTENTS: _description,
    _T.EV_S_CRTM_VERSION: _crtm_version,
    _T.EV_PLATFORM_CONFIG_FLAGS: _description,
    _T.EV_IPL: _boot_loader,
    _T.EV_NONHOST_INFO: _description,
    _T.EV_OMIT_BOOT_DEVICE_EVENTS: _description,
    _T.EV_POST_CODE2: _blob2,
    _T.EV_EFI_VARIABLE_DRIVER_CONFIG: decode_firmware_variable,
    _T.EV_EFI_VARIABLE_BOOT: decode_firmware_variable,
    _T.EV_EFI_VARIABLE_BOOT2: decode_firmware_variable,
    _T.EV_EFI_VARIABLE_AUTHORITY: decode_firmware_variable,
    _T.EV_EFI_BOOT_SERVICES_APPLICATION: _image,
    _T.EV_EFI_BOOT_SERVICES_DRIVER: _image,
    _T.EV_EFI_RUNTIME_SERVICES_DRIVER: _image,
    _T.EV_EFI_GPT_EVENT: _partition_table,
    _T.EV_EFI_GPT_EVENT2: _partition_table,
    _T.EV_EFI_ACTION: _action,
    _T.EV_EFI_PLATFORM_FIRMWARE_BLOB: _blob,
    _T.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _blob2,
}
