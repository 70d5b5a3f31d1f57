"""Change to whom an image is sealed: header and recipients are written anew, the data and the root stay as they are.

Whoever could open the image before may have kept its key: removing a recipient keeps out those who have not looked yet.
"""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tccp.core.image import DESCRIPTOR_BYTES, HEADER_BYTES, ImageInfo, image_header_write
from tccp.errors import ConfigError, HostError
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

    The new header is kept beside the image until it is in it: what a crash cuts off is finished by the next call, so
    that nobody comes back who was removed.

    Raises:
        SealedImageError: The image does not hold, or *secret* is no recipient of it.
        ConfigError: A recipient that goes is not there, nobody is left, there are too many, or one is there twice.
        HostError: ``image_in_use``: somebody else is changing its recipients.
    """
    pending = path.with_name(f".{path.name}.new-header")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock(descriptor, path)
        _finish(descriptor, pending)
        image = read_sealed_image(descriptor)
        key = unlock_image(image, secret)
        entries = _leave_out(image.recipients, [*remove, *(old for old, _ in rotate)])
        added = [*add, *(new for _, new in rotate)]
        entries += [wrap_image_key(key, image.info.image_id, recipient) for recipient in added]
        check_recipients([entry.key_id for entry in entries])
        info = replace(image.info, recipient_count=len(entries))
        with new_file(pending) as file:
            write_header(file.descriptor, image_header_write(info, [entry.encode() for entry in entries], key))
            file.publish()
        _finish(descriptor, pending)
    finally:
        os.close(descriptor)
    return info, entries


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HostError("image_in_use", f"{path}: somebody else is changing its recipients") from None


def _finish(descriptor: int, pending: Path) -> None:
    """Bring a header that is whole beside the image into it; that which names the image is the same in both."""
    if not pending.exists():
        return
    header = pending.read_bytes()
    if len(header) == HEADER_BYTES and os.pread(descriptor, DESCRIPTOR_BYTES, 0) == header[:DESCRIPTOR_BYTES]:
        write_header(descriptor, header)
        os.fsync(descriptor)
    pending.unlink()


def _leave_out(entries: list[Recipient], names: Sequence[Named]) -> list[Recipient]:
    gone = {_key_id(entries, name) for name in names}
    return [entry for entry in entries if entry.key_id not in gone]


def _key_id(entries: Sequence[Recipient], name: Named) -> bytes:
    beginning = name.hex() if isinstance(name, bytes) else name.lower()
    found = [entry.key_id for entry in entries if entry.key_id.hex().startswith(beginning)]
    if len(found) != 1:
        raise ConfigError("no_such_recipient", f"{len(found)} recipients begin with {beginning[:16]}")
    return found[0]
