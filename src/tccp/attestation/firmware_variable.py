"""UEFI variables as firmware measures them: secure-boot state and databases, boot order, boot options.

Decoded from an event's data, and as trustworthy as that (see `event_log`). Nothing here raises for what a value holds:
a value that is no signature list has none.

Source: UEFI Specification 2.10, 3.1.3 (load options), 32.4.1 (signature lists); PFP 1.06, 10.2.6 (UEFI_VARIABLE_DATA).
"""

import struct
import uuid
from dataclasses import dataclass

from tccp.attestation.device_path import device_path_text, utf16_text

NAME_BYTES_MAX = 65536
SIGNATURES_MAX = 16384


@dataclass(frozen=True, slots=True)
class Signature:
    """An entry of a signature database: whom or what firmware trusts (or, in dbx, distrusts)."""

    kind: uuid.UUID
    owner: uuid.UUID
    data: bytes


@dataclass(frozen=True, slots=True)
class LoadOption:
    """A ``Boot####`` variable: a name in the boot menu and what it starts."""

    is_active: bool
    description: str
    device_path: str


@dataclass(frozen=True, slots=True)
class FirmwareVariable:
    """A UEFI variable, at the moment when it was measured: SecureBoot, PK, db, BootOrder, Boot0001, MokList..."""

    vendor: uuid.UUID
    name: str
    value: bytes

    @property
    def is_on(self) -> bool | None:
        """For a one-byte switch such as ``SecureBoot``; None when it is neither 0 nor 1."""
        return {b"\x00": False, b"\x01": True}.get(self.value)

    def signatures(self) -> tuple[Signature, ...] | None:
        """The entries of PK, KEK, db or dbx; None when the value is no sequence of EFI_SIGNATURE_LIST."""
        try:
            return _signature_lists(self.value)
        except (struct.error, ValueError):
            return None

    def load_option(self) -> LoadOption | None:
        """The value of a ``Boot####`` variable (EFI_LOAD_OPTION); None when it is none."""
        if len(self.value) < 8:
            return None
        attributes, path_len = struct.unpack_from("<IH", self.value)
        description = utf16_text(self.value[6 : 6 + NAME_BYTES_MAX])
        path_at = 6 + 2 * (len(description.encode("utf-16-le", errors="replace")) // 2 + 1)
        path = self.value[path_at : path_at + path_len]
        return LoadOption(bool(attributes & 1), description, device_path_text(path))


def decode_firmware_variable(data: bytes) -> FirmwareVariable:
    """The variable in UEFI_VARIABLE_DATA, whose name and value fill *data* or less: old shims log some padding.

    Raises:
        ValueError, struct.error: The sizes do not fit.
    """
    vendor, name_len, value_len = struct.unpack_from("<16sQQ", data)
    value_at = 32 + 2 * name_len
    if value_at + value_len > len(data):
        raise ValueError("a variable that runs past its event")
    name = data[32:value_at][:NAME_BYTES_MAX].decode("utf-16-le", errors="replace").rstrip("\0")
    return FirmwareVariable(uuid.UUID(bytes_le=vendor), name, data[value_at : value_at + value_len])


def _signature_lists(value: bytes) -> tuple[Signature, ...]:
    signatures: list[Signature] = []
    at = 0
    while at < len(value):
        kind, list_size, header_size, entry_size = struct.unpack_from("<16sIII", value, at)
        first, end = at + 28 + header_size, at + list_size
        if end > len(value) or first > end or entry_size < 16 or (end - first) % entry_size:
            raise ValueError("an EFI_SIGNATURE_LIST that does not fit")
        if len(signatures) + (end - first) // entry_size > SIGNATURES_MAX:
            raise ValueError("too many signatures")
        for entry in range(first, end, entry_size):
            owner = uuid.UUID(bytes_le=value[entry : entry + 16])
            signatures.append(Signature(uuid.UUID(bytes_le=kind), owner, value[entry + 16 : entry + entry_size]))
        at = end
    return tuple(signatures)
