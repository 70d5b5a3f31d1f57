"""Change to whom an image is sealed: header and recipients are written anew, the data and the root stay as they are.

Whoever could open the image before may have kept its key: removing a recipient keeps out those who have not looked yet.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tccp.core.image import DESCRIPTOR_BYTES, HEADER_BYTES, ImageInfo, image_header_write
from tccp.errors import ConfigError
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.output import new_file
from tccp.image.recipients import Recipient, check_recipients, wrap_image_key
from tccp.image.sealed import read_sealed_image, unlock_image, write_header

# A recipient of the image: its key id, or the hexadecimal digits that it begins with.
Named = bytes | str
Rotation = tuple[Named, RecipientPublicKey]


def rewrap_image(
    path: Path,
    secret: RecipientSecretKey,
    *,
    add: Sequence[RecipientPublicKey] = (),
    remove: Sequence[Named] = (),
    rotate: Sequence[Rotation] = (),
) -> tuple[ImageInfo, list[Recipient]]:
    """Add, remove and replace recipients of the image at *path*, in place; *secret* is one of them now.

    Args:
        remove: Those who go.
        rotate: Pairs of who goes and the key that takes the place.

    The old header is kept beside the image until the new one is on the disk: what a crash tears is put back by the next
    call.

    Raises:
        SealedImageError: The image does not hold, or *secret* is no recipient of it.
        ConfigError: A recipient that goes is not there, nobody is left, there are too many, or one is there twice.
    """
    backup = path.with_name(f".{path.name}.old-header")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _mend(descriptor, backup)
        image = read_sealed_image(descriptor)
        key = unlock_image(image, secret)
        entries = _leave_out(image.recipients, [*remove, *(old for old, _ in rotate)])
        added = [*add, *(new for _, new in rotate)]
        entries += [wrap_image_key(key, image.info.image_id, recipient) for recipient in added]
        check_recipients([entry.key_id for entry in entries])
        info = replace(image.info, recipient_count=len(entries))
        with new_file(backup) as file:
            write_header(file.descriptor, image.header)
            file.publish()
        write_header(descriptor, image_header_write(info, [entry.encode() for entry in entries], key))
        os.fsync(descriptor)
        backup.unlink()
    finally:
        os.close(descriptor)
    return info, entries


def _mend(descriptor: int, backup: Path) -> None:
    """Put back the old header when a crash came between the two: the part that names the image is the same in both."""
    if not backup.exists():
        return
    header = backup.read_bytes()
    if len(header) == HEADER_BYTES and os.pread(descriptor, DESCRIPTOR_BYTES, 0) == header[:DESCRIPTOR_BYTES]:
        write_header(descriptor, header)
        os.fsync(descriptor)
    backup.unlink()


def _leave_out(entries: list[Recipient], names: Sequence[Named]) -> list[Recipient]:
    gone = {_key_id(entries, name) for name in names}
    return [entry for entry in entries if entry.key_id not in gone]


def _key_id(entries: Sequence[Recipient], name: Named) -> bytes:
    beginning = name.hex() if isinstance(name, bytes) else name.lower()
    found = [entry.key_id for entry in entries if entry.key_id.hex().startswith(beginning)]
    if len(found) != 1:
        raise ConfigError("no_such_recipient", f"{len(found)} recipients begin with {beginning[:16]}")
    return found[0]
