"""What the commands about disks share: keys, roots and sizes on a command line."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli.arguments import Parser, add_file, hex_of
from tccp.cli.key_files import open_secret

if TYPE_CHECKING:
    from tccp.core.disk import DiskKey, LiveDisk

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SIZE_MAX = 16 << 40
root_bytes = hex_of(32, "a root")
mark_bytes = hex_of(40, "a mark")


def add_disk(parser: Parser, *, root: bool = True) -> None:
    """The disk, its key, and the root that it must have."""
    add_file(parser, "disk", summary="the file of the disk")
    source = parser.add_mutually_exclusive_group(required=True)
    add_file(source, "--key", summary="file with the 32 bytes of the disk's key, which nobody else may read")
    source.add_argument("--key-fd", metavar="N", type=int, help="descriptor that the key can be read from")
    add_file(parser, "--base", summary="the sealed image that the disk was made over; its key is the disk's")
    if root:
        parser.add_argument(
            "--root", metavar="HEX", type=root_bytes, help="refuse the disk unless this is its root: no rollback"
        )
        parser.add_argument(
            "--not-before",
            metavar="HEX",
            type=mark_bytes,
            help="refuse the disk unless its history has come by this mark: no rollback after a crash either",
        )


def size_bytes(text: str) -> int:
    """A size such as ``20G``, a multiple of 4 KiB; a type for ``add_argument``."""
    unit = text[-1:].upper() if text[-1:].upper() in UNITS else ""
    digits = text[: len(text) - len(unit)]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 20G (K, M, G, T; powers of 1024)")
    size = int(digits) * UNITS[unit]
    if size == 0 or size % 4096 or size > SIZE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of 4 KiB up to 16T")
    return size


def key_descriptor(args: argparse.Namespace) -> int:
    """A descriptor to read the key from; the caller closes it."""
    return open_secret(args.key) if args.key_fd is None else int(args.key_fd)


@contextmanager
def disk_key(args: argparse.Namespace) -> "Iterator[DiskKey]":
    """The key, wiped at the end of the block."""
    from tccp.core.disk import DiskKey

    descriptor = key_descriptor(args)
    try:
        key = DiskKey(descriptor)
    finally:
        os.close(descriptor)
    try:
        yield key
    finally:
        key.wipe()


@contextmanager
def opened(args: argparse.Namespace, *, read_only: bool) -> "Iterator[LiveDisk]":
    """The disk that the command line names."""
    from tccp.disk.file import open_live_disk

    path: Path = args.disk
    with (
        disk_key(args) as key,
        open_live_disk(
            path, key, base=args.base, root=args.root, not_before=args.not_before, read_only=read_only
        ) as disk,
    ):
        yield disk
