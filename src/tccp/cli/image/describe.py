"""A sealed image in words and in JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tccp.cli.output import in_units

if TYPE_CHECKING:
    from tccp.core.image import ImageInfo
    from tccp.image.recipients import Recipient


def size_text(size: int) -> str:
    """``"2.0 GiB (2147483648 bytes)"``."""
    text = in_units(size)
    return text if text.endswith("bytes") else f"{text} ({size} bytes)"


def facts(info: "ImageInfo", recipients: Sequence["Recipient"]) -> dict[str, str]:
    """What a person wants to know of it."""
    return {
        "root": info.root.hex(),
        "image id": info.image_id.hex(),
        "size": size_text(info.size),
        "cipher": info.suite_name,
        "tenant": info.tenant.hex() if info.tenant is not None else "none: not signed",
        "recipients": ", ".join(entry.key_id.hex()[:16] for entry in recipients) or "none",
    }


def document(info: "ImageInfo", recipients: Sequence["Recipient"]) -> dict[str, Any]:
    """The same for a program."""
    return {
        "root": info.root,
        "image_id": info.image_id,
        "size": info.size,
        "file_bytes": info.file_bytes,
        "suite": info.suite_name,
        "tenant": info.tenant,
        "recipients": [entry.key_id for entry in recipients],
    }
