"""Change to whom an image is sealed: header and recipients are written anew, the data and the root stay as they are.

Whoever could open the image before may have kept its key: removing a recipient keeps out those who have not looked yet.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tccp.core.image import DESCRIPTOR_BYTES, HEADER_BYTES, ImageInfo, image_header_write
from tccp.errors import ConfigError, SealedImageError
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.output import new_file
from tccp.image.recipients import Recipient, check_recipients, wrap_image_key
from tccp.image.sealed import read_sealed_image, unlock_image, write_header

Rotation = tuple[bytes, RecipientPublicKey]


def rewrap_image(
    path: Path,
    secret: RecipientSecretKey,
    *,
    add: Sequence[RecipientPublicKey] = (),
    remove: Sequence[bytes] = (),
    rotate: Sequence[Rotation] = (),
) -> tuple[ImageInfo, list[Recipient]]:
    """Add, remove and replace recipients of the image at *path*, in place; *secret* is one of them now.

    Args:
        remove: Key ids.
        rotate: Pairs of the key id that goes and the key that takes its place.

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


def _leave_out(entries: list[Recipient], key_ids: Sequence[bytes]) -> list[Recipient]:
    present = {entry.key_id for entry in entries}
    for key_id in key_ids:
        if key_id not in present:
            raise ConfigError("no_such_recipient", f"{key_id.hex()[:16]} is no recipient of the image")
    return [entry for entry in entries if entry.key_id not in set(key_ids)]


def recipient_named(entries: Sequence[Recipient], beginning: str) -> bytes:
    """The key id that begins with these hexadecimal digits.

    Raises:
        SealedImageError: None does, or more than one.
    """
    found = [entry.key_id for entry in entries if entry.key_id.hex().startswith(beginning.lower())]
    if len(found) != 1:
        raise SealedImageError("no_such_recipient", f"{len(found)} recipients begin with {beginning!r}")
    return found[0]
