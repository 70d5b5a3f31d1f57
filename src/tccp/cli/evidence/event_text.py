"""The content of firmware events in a line for a person, or as plain values for a program.

All of it is a claim, and full of foreign strings: whoever prints it escapes it.
"""

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tccp.attestation import event_data as data
from tccp.attestation.event_log import Event
from tccp.attestation.firmware_variable import FirmwareVariable

# What stands in a table; the JSON document holds all of it.
TEXT_CHARACTERS_MAX = 160
HEX_BYTES_MAX = 32


def event_text(event: Event) -> str:
    """One line, cut where it gets long."""
    content = event.content()
    text = _TEXTS[type(content)](content)
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[: TEXT_CHARACTERS_MAX - 3]}..."


def event_document(event: Event) -> dict[str, Any]:
    """The fields of the content, and its kind: ``{"kind": "GrubCommand", ...}``."""
    content = event.content()
    return {"kind": type(content).__name__, **_plain_fields(content)}


def _plain_fields(value: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _variable(variable: FirmwareVariable) -> str:
    if variable.is_on is not None:
        return f"{variable.name} = {'on' if variable.is_on else 'off'}"
    if (entries := variable.signatures()) is not None and variable.value:
        return f"{variable.name}: {len(entries)} entries"
    if variable.name.startswith("Boot0") and (option := variable.load_option()) is not None:
        return f"{variable.name}: {option.description} {option.device_path}"
    return f"{variable.name} = {_hex(variable.value)}"


def _hex(value: bytes) -> str:
    if len(value) <= HEX_BYTES_MAX:
        return value.hex()
    return f"{value[:HEX_BYTES_MAX].hex()}... ({len(value)} bytes)"


_TEXTS: dict[type[data.EventData], Callable[[Any], str]] = {
    data.FirmwareBlob: lambda blob: f"{blob.description} {blob.size} bytes at 0x{blob.base:x}".strip(),
    data.CrtmVersion: lambda crtm: crtm.version,
    FirmwareVariable: _variable,
    data.LoadedImage: lambda image: image.device_path,
    data.PartitionTable: lambda table: f"disk {table.disk}, {len(table.partitions)} partitions",
    data.GrubCommand: lambda command: f"{command.keyword}: {command.text}",
    data.LoadedFile: lambda file: file.name,
    data.CommandLine: lambda line: line.text,
    data.Action: lambda action: action.text,
    data.Description: lambda description: description.text,
    data.TaggedEvent: lambda tagged: f"tag 0x{tagged.tag:x}: {tagged.text}",
    data.Separator: lambda separator: f"{'error: ' if separator.is_error else ''}{_hex(separator.value)}",
    data.StartupLocality: lambda startup: f"locality {startup.locality}",
    data.ReferenceManifest: lambda manifest: f"reference values: {manifest.manufacturer}, {manifest.manifest}",
    data.NoAction: lambda no_action: f"{no_action.signature} {_hex(no_action.data)}",
    data.Unknown: lambda unknown: _hex(unknown.data),
}
