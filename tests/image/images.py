"""Sealed images for tests: made by the real functions, altered as an attacker would."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nacl.signing import SigningKey, VerifyKey

from tccp.core.image import ImageInfo, ImageKey
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.sealed import (
    SealedImage,
    open_image,
    read_sealed_image,
    seal_image,
    unlock_image,
    verify_chunks,
    verify_root,
    verify_signature,
    verify_tags,
    verify_tenant,
)

CHUNK = 65536
GROUP = 128 * CHUNK
PAGE = 4096
HEADER = 65536


class Owner(NamedTuple):
    """A recipient and a tenant."""

    recipient: RecipientSecretKey
    tenant: SigningKey


def make_owner() -> Owner:
    return Owner(RecipientSecretKey.from_seed(os.urandom(32)), SigningKey.generate())


def seal_bytes(
    path: Path,
    data: bytes,
    *recipients: RecipientPublicKey,
    tenant: SigningKey | None = None,
    suite: int | None = None,
) -> ImageInfo:
    """Seal *data* into the file *path*."""
    plain = path.with_name(f"{path.name}.plain")
    plain.write_bytes(data)
    with opened(plain, os.O_RDONLY) as source, opened(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as target:
        return seal_image(source, target, recipients, tenant=tenant, suite=suite)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def sealed(path: Path) -> Iterator[SealedImage]:
    with opened(path, os.O_RDONLY) as descriptor:
        yield read_sealed_image(descriptor)


def open_bytes(
    path: Path, secret: RecipientSecretKey, tenant: VerifyKey | None = None, root: bytes | None = None
) -> bytes:
    """Everything that `tccp image open` does, into memory."""
    out = path.with_name(f"{path.name}.opened")
    with sealed(path) as image, opened(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as target:
        key = unlock_image(image, secret)
        _check_identity(image, tenant, root)
        open_image(image, target, key)
    return out.read_bytes()


def _check_identity(image: SealedImage, tenant: VerifyKey | None, root: bytes | None) -> None:
    if root is not None:
        verify_root(image.info, root)
    if tenant is not None:
        verify_tenant(image.info, tenant)


def image_key(path: Path, secret: RecipientSecretKey) -> ImageKey:
    with sealed(path) as image:
        return unlock_image(image, secret)


def verify_with_key(
    path: Path, secret: RecipientSecretKey, tenant: VerifyKey | None = None, root: bytes | None = None
) -> None:
    with sealed(path) as image:
        key = unlock_image(image, secret)
        _check_identity(image, tenant, root)
        verify_chunks(image, key)


def verify_without_key(path: Path, root: bytes | None = None) -> None:
    with sealed(path) as image:
        _check_identity(image, None, root)
        verify_signature(image.info)
        verify_tags(image)


def alter(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change the file's bytes; its holes become zeros, which is the same file."""
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def chunk_at(chunk: int) -> int:
    """Where a chunk begins in the sealed file."""
    return HEADER + (chunk // 128) * (PAGE + GROUP) + PAGE + chunk % 128 * CHUNK


def tag_at(chunk: int) -> int:
    """Where its tag is."""
    return HEADER + (chunk // 128) * (PAGE + GROUP) + chunk % 128 * 32
