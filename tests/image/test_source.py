"""What a server of an image may answer, and what is refused. The servers here are scripts; the real one is qemu-nbd."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tccp.errors import HostError
from tccp.image.source import CONNECTIONS, NbdSource, Source

SIZE = 60_000
GREETING = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 3)
STRUCTURED = struct.pack(">QIII", 0x0003E889045565A9, 8, 1, 0)
EXPORT = struct.pack(">QH", SIZE, 1)
DONE = 1


def chunk(kind: int, payload: bytes, *, flags: int = 0, cookie: int = 0, magic: int = 0x668E33EF) -> bytes:
    return struct.pack(">IHHQI", magic, flags, kind, cookie, len(payload)) + payload


def data(offset: int, content: bytes, flags: int = 0) -> bytes:
    return chunk(1, struct.pack(">Q", offset) + content, flags=flags)


def hole(offset: int, count: int, flags: int = 0) -> bytes:
    return chunk(2, struct.pack(">QI", offset, count), flags=flags)


@contextmanager
def source_of(answers: bytes, hello: bytes = GREETING + STRUCTURED + EXPORT) -> Iterator[Source]:
    """An image of one piece whose server says *answers* to the one question for it, and hangs up."""
    with ExitStack() as stack:
        ours = []
        for number in range(CONNECTIONS):
            near, far = socket.socketpair()
            stack.enter_context(near)
            stack.enter_context(far)
            far.sendall(hello + (answers if number == 0 else b""))
            far.shutdown(socket.SHUT_WR)
            ours.append(near)
        source = NbdSource(ours)
        stack.callback(source.stop)
        yield source


def everything(source: Source) -> bytes:
    with os.fdopen(os.dup(source.descriptor), "rb") as pipe:
        return pipe.read()


@pytest.mark.parametrize(
    "answers",
    [
        data(0, b"x" * 20_000) + hole(20_000, 30_000) + data(50_000, b"x" * 10_000, DONE),
        data(0, b"x" * 20_000) + hole(20_000, 30_000) + data(50_000, b"x" * 10_000) + chunk(0, b"", flags=DONE),
        data(0, b"x" * 20_000) + hole(20_000, 1) + hole(20_001, 29_999) + data(50_000, b"x" * 10_000, DONE),
    ],
    ids=["done with data", "done by itself", "two holes"],
)
def test_data_and_holes_come_out_in_order(answers: bytes) -> None:
    with source_of(answers) as source:
        assert everything(source) == b"x" * 20_000 + bytes(30_000) + b"x" * 10_000
        source.check(SIZE)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (b"", "hung up"),
        (data(0, b"x" * 20_000, DONE), "ends too early"),
        (data(0, b"x" * 20_000), "hung up"),
        (hole(1, SIZE - 1, DONE), "other bytes"),
        (hole(0, SIZE + 1, DONE), "other bytes"),
        (data(0, b"x" * (SIZE + 1), DONE), "other bytes"),
        (hole(0, SIZE) + hole(0, SIZE, DONE), "other bytes"),
        (chunk(5, bytes(SIZE), flags=DONE), "unknown kind"),
        (chunk(0, b"x", flags=DONE), "unknown kind"),
        (chunk(1, b"x", flags=DONE), "unknown kind"),
        (chunk(2, bytes(13), flags=DONE), "unknown kind"),
        (chunk(2, struct.pack(">QI", 0, SIZE), flags=DONE, cookie=7), "none to our question"),
        (chunk(2, struct.pack(">QI", 0, SIZE), flags=DONE, magic=0x67446698), "none to our question"),
        (chunk(1 << 15 | 1, struct.pack(">IH", 5, 0), flags=DONE), "Input/output error"),
        (data(0, b"x" * 20_000)[:10_000], "ended in the middle"),
    ],
)
def test_any_other_answer_fails_the_image(answers: bytes, problem: str) -> None:
    with source_of(answers) as source:
        came = everything(source)
        with pytest.raises(HostError, match=problem):
            source.check(len(came))


@pytest.mark.parametrize(
    "hello",
    [
        b"NBDMAGIC" + b"\0\0\x42\x02\x81\x86\x12\x53" + struct.pack(">H", 3),
        b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 0),
        GREETING + struct.pack(">QIII", 0x0003E889045565A9, 8, 0x80000001, 0) + EXPORT,
    ],
    ids=["oldstyle", "not fixed", "no structured replies"],
)
def test_a_server_of_another_protocol_is_refused(hello: bytes) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(HostError, match="source_failed"), source_of(b"", hello):
        pass
    assert sorted(Path("/proc/self/fd").iterdir()) == before
