"""The entries of a sealed image that wrap its key, one for each recipient; docs/IMAGE_FORMAT.md has the bytes.

HPKE (RFC 9180) in base mode with X-Wing, HKDF-SHA256 and AES-256-GCM; the info string names the image, so that an
entry that is copied into another image opens nothing there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tccp.core.image import RECIPIENT_BYTES, RECIPIENTS_MAX, RECIPIENTS_OFFSET, ImageInfo, ImageKey
from tccp.errors import ConfigError, SealedImageError
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey

INFO_DOMAIN = b"tccp image key v1\0"
XWING = 1
KEY_ID_OFFSET = 16
WRAPPED_OFFSET = 48
HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One entry: for whom, and the image key wrapped to it."""

    key_id: bytes
    wrapped: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The entry's bytes."""
        return XWING.to_bytes(4, "little") + bytes(KEY_ID_OFFSET - 4) + self.key_id + self.wrapped


def wrap_image_key(key: ImageKey, image_id: bytes, recipient: RecipientPublicKey) -> Recipient:
    """Wrap the key of the image *image_id* to *recipient*."""
    return Recipient(recipient.key_id, HPKE.encrypt(key.buffer, recipient.hpke_key(), INFO_DOMAIN + image_id))


def check_recipients(key_ids: Sequence[bytes]) -> None:
    """Refuse recipients that no image may have.

    Raises:
        ConfigError: No recipient, more than fit, or one twice.
    """
    if not key_ids:
        raise ConfigError("no_recipients", "nobody could open the image")
    if len(key_ids) > RECIPIENTS_MAX:
        raise ConfigError("too_many_recipients", f"{len(key_ids)}; an image has room for {RECIPIENTS_MAX}")
    if len(set(key_ids)) != len(key_ids):
        raise ConfigError("recipient_twice", "two of the recipients have the same key")


def recipients_of(header: bytes, info: ImageInfo) -> list[Recipient]:
    """The entries of a header that `tccp.core.image.image_header_parse` accepted.

    Raises:
        SealedImageError: One is of no kind that we know.
    """
    entries = []
    for number in range(info.recipient_count):
        at = RECIPIENTS_OFFSET + number * RECIPIENT_BYTES
        entry = header[at : at + RECIPIENT_BYTES]
        if entry[:KEY_ID_OFFSET] != XWING.to_bytes(KEY_ID_OFFSET, "little"):
            raise SealedImageError(
                "recipients_altered", f"recipient {number} is of a kind that this tccp does not know"
            )
        entries.append(Recipient(entry[KEY_ID_OFFSET:WRAPPED_OFFSET], entry[WRAPPED_OFFSET:]))
    return entries


def unwrap_image_key(entries: Iterable[Recipient], image_id: bytes, secret: RecipientSecretKey) -> ImageKey:
    """The image key, by the entry for *secret*.

    Raises:
        SealedImageError: There is no such entry, or it was altered.
    """
    for entry in entries:
        if entry.key_id == secret.public.key_id:
            try:
                return ImageKey.take(HPKE.decrypt(entry.wrapped, secret.hpke_key, INFO_DOMAIN + image_id))
            except (InvalidTag, ValueError) as error:
                raise SealedImageError(
                    "recipient_altered", "the entry for this key was altered, or is of another image"
                ) from error
    raise SealedImageError(
        "not_a_recipient",
        f"sealed to others, not to {secret.public.key_id.hex()[:16]}",
        hint="`tccp image inspect` lists the recipients; one of them can add you with `tccp image rewrap --add`.",
    )
