"""Fuzz targets for what is sealed: the head of a qcow2 image, and what qemu-nbd says that reads a stranger's image."""

import os
import struct

from tccp.errors import ConfigError, HostError
from tccp.image.source import QCOW2_MAGIC, RAW, detect_format
from tests.image.test_source import DONE, EXPORT, GREETING, SIZE, STRUCTURED, data, everything, hole, source_of

HELLO = GREETING + STRUCTURED + EXPORT
INCOMPATIBLE_AT, EXTERNAL_DATA = 72, 4


def feed_qcow2(head: bytes) -> bool:
    """What is taken for a qcow2 image draws on no other file."""
    file = os.memfd_create("image", os.MFD_CLOEXEC)
    try:
        os.write(file, head)
        found = detect_format(file)
    except ConfigError:
        return True
    finally:
        os.close(file)
    assert (found == RAW) is not head.startswith(QCOW2_MAGIC)
    if found != RAW:
        whole = head.ljust(80, b"\0")
        (version,), (backing,) = struct.unpack_from(">I", whole, 4), struct.unpack_from(">Q", whole, 8)
        assert backing == 0
        assert version < 3 or not whole[INCOMPATIBLE_AT + 7] & EXTERNAL_DATA
    return found != RAW


def qcow2_headers() -> list[bytes]:
    """Of each version, with a backing file, and with an external data file."""
    old, new = (QCOW2_MAGIC + struct.pack(">IQ", version, 0) + bytes(56) for version in (2, 3))
    return [old, new + bytes(8), QCOW2_MAGIC + struct.pack(">IQ", 3, 104) + bytes(64), new + struct.pack(">Q", 4)]


def feed_nbd_server(said: bytes) -> bool:
    """Any server: no more than it announced comes out, and all of that, or the image fails."""
    hello, answers = said[: len(HELLO)], said[len(HELLO) :]
    try:
        with source_of(answers, hello) as source:
            came = everything(source)
            source.check(len(came))
    except (HostError, OSError, EOFError):
        return False
    assert len(came) == int.from_bytes(hello[38:46], "big")
    return True


def nbd_servers() -> list[bytes]:
    """An image of one piece, in several answers."""
    return [HELLO + data(0, b"x" * 900) + hole(900, SIZE - 1_000) + data(SIZE - 100, b"y" * 100, DONE)]
