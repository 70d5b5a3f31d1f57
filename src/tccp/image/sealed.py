"""Seal, open and verify images.

What is checked, in this order: the *structure* of the header; with a key, the recipient's own entry, the *commitment*
to the key and the MACs over header and recipients; the *root*, when the caller knows which image it wants; the tenant's
*signature* over the root, when the caller knows whose image it wants; the *tags*, which must lead to the root; and each
*chunk* against its tag, before any byte of it is released.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.core.image import (
    HEADER_BYTES,
    THREADS_MAX,
    ImageInfo,
    ImageKey,
    image_check_tags,
    image_header_check,
    image_header_parse,
    image_header_write,
    image_open,
    image_seal,
    suite_of_cpu,
)
from tccp.errors import SealedImageError
from tccp.image.job import Watch, run_job
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.recipients import Recipient, check_recipients, recipients_of, unwrap_image_key, wrap_image_key

SIGNATURE_DOMAIN = b"tccp image signature v1\0"
NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class SealedImage:
    """The header of a sealed image behind a descriptor: parsed, and nothing of it verified."""

    descriptor: int
    header: bytes = field(repr=False)
    info: ImageInfo
    recipients: list[Recipient]


def thread_count() -> int:
    """One for each CPU that this process may use."""
    return min(len(os.sched_getaffinity(0)), THREADS_MAX)


def seal_image(
    source: int,
    target: int,
    recipients: Sequence[RecipientPublicKey],
    *,
    tenant: SigningKey | None = None,
    suite: int | None = None,
    watch: Watch | None = None,
) -> ImageInfo:
    """Seal what *source* gives into *target*, to *recipients*, signed by *tenant*.

    Args:
        source: A descriptor: a regular file is read whole, a pipe to its end.
        target: The descriptor of an empty regular file; it is complete but not synced afterwards.
        suite: The cipher; by default the one that suits this CPU.

    Raises:
        ConfigError: The recipients are none, too many or not different.
        HostError: Reading or writing failed.
    """
    key = ImageKey.generate()
    check_recipients([recipient.key_id for recipient in recipients])  # before the work, not after it
    chosen = suite_of_cpu() if suite is None else suite
    info = run_job(
        lambda progress: image_seal(source, target, key, suite=chosen, threads=thread_count(), progress=progress),
        watch,
    )
    entries = [wrap_image_key(key, info.image_id, recipient) for recipient in recipients]
    if tenant is not None:
        info = replace(info, tenant=bytes(tenant.verify_key), signature=sign_root(info.root, tenant))
    info = replace(info, recipient_count=len(entries))
    write_header(target, image_header_write(info, [entry.encode() for entry in entries], key))
    return info


def sign_root(root: bytes, tenant: SigningKey) -> bytes:
    """The tenant's signature, 64 bytes."""
    return tenant.sign(SIGNATURE_DOMAIN + root).signature


def write_header(target: int, header: bytes) -> None:
    """Put header and recipients at the beginning of *target*."""
    done = 0
    while done < len(header):
        done += os.pwrite(target, header[done:], done)


def read_sealed_image(descriptor: int) -> SealedImage:
    """Read and parse the header of the sealed image behind *descriptor*, a regular file.

    Raises:
        SealedImageError: It is none, it is truncated, or there are bytes behind its end.
    """
    header = bytearray()
    while len(header) < HEADER_BYTES:
        block = os.pread(descriptor, HEADER_BYTES - len(header), len(header))
        if not block:
            break
        header += block
    info = image_header_parse(bytes(header), os.fstat(descriptor).st_size)
    return SealedImage(descriptor, bytes(header), info, recipients_of(bytes(header), info))


def verify_signature(info: ImageInfo) -> None:
    """Whether the tenant whom the image names has signed it; says nothing about who that is.

    Raises:
        SealedImageError: It is not signed, or by somebody else.
    """
    if info.tenant is None or info.signature is None:
        raise SealedImageError("unsigned", "no tenant has signed the image")
    try:
        VerifyKey(info.tenant).verify(SIGNATURE_DOMAIN + info.root, info.signature)
    except BadSignatureError as error:
        raise SealedImageError("bad_signature", "the header was altered after the tenant signed it") from error


def verify_tenant(info: ImageInfo, tenant: VerifyKey) -> None:
    """Whether exactly *tenant* has signed the image.

    Raises:
        SealedImageError: It is not signed, altered, or signed by somebody else.
    """
    verify_signature(info)
    if info.tenant != bytes(tenant):
        assert info.tenant is not None
        raise SealedImageError("wrong_tenant", f"signed by {info.tenant.hex()[:16]}, not by {bytes(tenant).hex()[:16]}")


def verify_root(info: ImageInfo, root: bytes) -> None:
    """Whether this is the image that *root* names.

    Raises:
        SealedImageError: It is another.
    """
    if info.root != root:
        raise SealedImageError("wrong_root", f"the image has root {info.root.hex()[:16]}, not {root.hex()[:16]}")


def unlock_image(image: SealedImage, secret: RecipientSecretKey) -> ImageKey:
    """The image key, after everything in the header was checked with it.

    Raises:
        SealedImageError: Not for this recipient, or the header or the recipients were altered.
    """
    key = unwrap_image_key(image.recipients, image.info.image_id, secret)
    image_header_check(image.header, image.info, key)
    return key


def verify_tags(image: SealedImage, *, watch: Watch | None = None) -> None:
    """Whether the tags of the chunks lead to the root. Needs no key, and says nothing about the chunks themselves.

    Raises:
        SealedImageError: They do not.
    """
    run_job(lambda progress: image_check_tags(image.descriptor, image.info, progress), watch)


def verify_chunks(image: SealedImage, key: ImageKey, *, watch: Watch | None = None) -> None:
    """Whether every chunk is the one that was sealed.

    Raises:
        SealedImageError: One is not, or the tags are not.
    """
    open_image(image, NO_TARGET, key, watch=watch)


def open_image(
    image: SealedImage, target: int, key: ImageKey, *, in_order: bool = False, watch: Watch | None = None
) -> None:
    """Decrypt *image* into *target*, an empty regular file or a pipe, with the key from `unlock_image`.

    Args:
        in_order: Write to *target* from where it stands, as to a pipe, even if it is a regular file.

    Raises:
        SealedImageError: The tags or a chunk were altered; nothing of that chunk was written.
        HostError: Reading or writing failed.
    """
    run_job(
        lambda progress: image_open(
            image.descriptor, target, image.info, key, in_order=in_order, threads=thread_count(), progress=progress
        ),
        watch,
    )
