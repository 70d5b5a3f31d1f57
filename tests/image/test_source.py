"""What is sealed, and what a server of it may answer. The servers here are scripts, but for the real one: qemu-nbd."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tccp.errors import ConfigError, HostError
from tccp.image.source import CONNECTIONS, NbdSource, Source, detect_format, open_source

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
        chunk(0, b"") + data(0, b"x" * 20_000) + hole(20_000, 30_000) + data(50_000, b"x" * 10_000, DONE),
    ],
    ids=["done with data", "done by itself", "two holes", "nothing first"],
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
        (data(0, b"x" * 20_000) + hole(20_000, SIZE, DONE), "other bytes"),
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
        with pytest.raises(HostError, match=problem) as failed:
            source.check(len(came))
        assert failed.value.reason == "source_failed"


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


def test_a_server_that_pads_is_understood() -> None:
    hello = GREETING[:-1] + b"\x01" + STRUCTURED + EXPORT + bytes(124)
    with source_of(hole(0, SIZE, DONE), hello) as source:
        assert everything(source) == bytes(SIZE)
        source.check(SIZE)


def test_what_comes_in_pieces_is_put_together() -> None:
    """Over sockets that keep pieces apart, so that each message takes two reads."""
    with ExitStack() as stack:
        ours = []
        for _ in range(CONNECTIONS):
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(near)
            stack.enter_context(far)
            answer = hole(0, SIZE, DONE)
            for message in (GREETING, STRUCTURED, EXPORT, answer[:20], answer[20:]):
                far.sendall(message[:3])
                far.sendall(message[3:])
            ours.append(near)
        source = NbdSource(ours)
        stack.callback(source.stop)

        assert everything(source) == bytes(SIZE)
        source.check(SIZE)


# ---- formats

SECRET = b"a file of the host that nobody named\n".ljust(1 << 20, b".")


def made(path: Path, *options: str) -> Path:
    """A qcow2 image of 1 MiB, by QEMU's own tool."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "1M"], check=True)
    return path


def format_of(path: Path) -> str:
    with path.open("rb") as file:
        return detect_format(file.fileno())


@pytest.mark.parametrize("version", ["compat=0.10", "compat=1.1"])
def test_a_qcow2_image_that_stands_alone_is_one(tmp_path: Path, version: str) -> None:
    assert format_of(made(tmp_path / "disk", "-o", version)) == "qcow2"


@pytest.mark.parametrize("content", [b"", b"QFI", b"\xfbIFQ" * 100, bytes(80)])
def test_anything_else_is_raw(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "disk").write_bytes(content)
    assert format_of(tmp_path / "disk") == "raw"


def test_a_qcow2_image_that_is_cut_off_is_for_qemu_to_refuse(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole").read_bytes()
    (tmp_path / "disk").write_bytes(whole[:20])
    assert format_of(tmp_path / "disk") == "qcow2"
    with pytest.raises(HostError, match="source_failed"), open_source(tmp_path / "disk"):
        pass


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("backing_file", ["-o", "compat=0.10", "-b", "secret", "-F", "raw"]),
        ("backing_file", ["-o", "compat=1.1", "-b", "secret", "-F", "raw"]),
        ("data_file", ["-o", "data_file=secret,data_file_raw=on,preallocation=metadata"]),
    ],
    ids=["backing file, old", "backing file", "data file"],
)
def test_an_image_draws_in_no_file_that_nobody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    image = made(tmp_path / "disk", *options)
    secret.write_bytes(SECRET)  # making an image clears its data file

    with pytest.raises(ConfigError) as refused, open_source(image):
        pass
    assert refused.value.reason == reason
    assert reason.replace("_", " ") in refused.value.detail
    assert "--format" in refused.value.hint
    # The control: whoever asks for the format gets what the image names.
    with open_source(image, "qcow2") as source:
        assert everything(source) == SECRET
        source.check(len(SECRET))


def test_an_image_of_several_pieces_comes_out_as_it_is(tmp_path: Path) -> None:
    content = os.urandom(1_500_000) + bytes(3 << 20) + os.urandom(500_000)
    content += bytes(-len(content) % 512)
    (tmp_path / "raw").write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", tmp_path / "raw", tmp_path / "disk"], check=True)

    with open_source(tmp_path / "disk") as source:
        assert everything(source) == content
        source.check(len(content))
        with pytest.raises(HostError):
            source.check(len(content) - 1)


def test_a_raw_file_is_sealed_as_it_is(tmp_path: Path) -> None:
    image = made(tmp_path / "disk")
    with open_source(image, "raw") as source:
        source.check(0)
        assert os.pread(source.descriptor, 4, 0) == b"QFI\xfb"
    with pytest.raises(HostError) as refused, open_source(tmp_path / "nowhere"):
        pass
    assert refused.value.reason == "file_unreadable"


def test_a_pipe_is_raw_whatever_comes_out_of_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "pipe").open("r+b", buffering=0) as both, open_source(tmp_path / "pipe") as source:
        both.write(b"QFI\xfb")
        assert os.read(source.descriptor, 4) == b"QFI\xfb"
