"""Disks in files, for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tccp.core.disk import DiskKey, create_disk
from tccp.disk.file import open_base
from tests.disk.direct import DirectDisk

KEY = bytes(range(32))
SMALL_LOG_BYTES = 65536


def disk_key(value: bytes = KEY) -> DiskKey:
    reader, writer = os.pipe()
    try:
        os.write(writer, value)
        os.close(writer)
        return DiskKey(reader)
    finally:
        os.close(reader)


def make_disk(path: Path, size_bytes: int, *, log_bytes: int = SMALL_LOG_BYTES, suite: int | None = None) -> None:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        create_disk(file, disk_key(), size_bytes, log_bytes=log_bytes, suite=suite)
    finally:
        os.close(file)


@contextmanager
def open_disk(
    path: Path,
    *,
    key: bytes = KEY,
    base: Path | None = None,
    root: bytes | None = None,
    not_before: bytes | None = None,
    read_only: bool = False,
) -> Iterator[DirectDisk]:
    file = os.open(path, os.O_RDONLY if read_only else os.O_RDWR)
    try:
        with (
            open_base(base, disk_key(key)) as image,
            DirectDisk(file, disk_key(key), base=image, root=root, not_before=not_before, read_only=read_only) as disk,
        ):
            yield disk
    finally:
        os.close(file)
