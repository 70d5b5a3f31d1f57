"""What was sealed is what is opened, whatever the size and wherever the holes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.core.image import SUITES, ImageKey, ImageProgress, image_open, image_seal
from tccp.errors import SealedImageError
from tccp.image.sealed import (
    open_image,
    unlock_image,
    verify_chunks,
    verify_root,
    verify_signature,
    verify_tags,
)
from tests.image.images import (
    CHUNK,
    GROUP,
    HEADER,
    PAGE,
    Owner,
    make_owner,
    open_bytes,
    opened,
    seal_bytes,
    sealed,
    verify_with_key,
    verify_without_key,
)

OWNER = make_owner()
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP + 5 * CHUNK + 17]


def patterned(size: int) -> bytes:
    """Bytes of which no chunk is like another."""
    return b"".join(number.to_bytes(8, "little") for number in range(1, size // 8 + 2))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suite", SUITES)
def test_an_image_of_any_size_opens_as_it_was_sealed(tmp_path: Path, size: int, suite: int) -> None:
    data, path = patterned(size), tmp_path / "image"

    info = seal_bytes(path, data, OWNER.recipient.public, tenant=OWNER.tenant, suite=suite)

    assert info.size == size
    assert path.stat().st_size == info.file_bytes == HEADER + -(-size // GROUP) * PAGE + -(-size // CHUNK) * CHUNK
    assert open_bytes(path, OWNER.recipient, OWNER.tenant.verify_key) == data
    verify_with_key(path, OWNER.recipient, OWNER.tenant.verify_key)
    verify_without_key(path)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_from_a_pipe_opens_as_it_was_written(tmp_path: Path, size: int) -> None:
    data, path = patterned(size), tmp_path / "image"
    (tmp_path / "plain").write_bytes(data)
    key = ImageKey.generate()
    with (
        subprocess.Popen(["cat", tmp_path / "plain"], stdout=subprocess.PIPE) as cat,
        opened(path, os.O_RDWR | os.O_CREAT) as target,
        opened(tmp_path / "opened", os.O_RDWR | os.O_CREAT) as out,
    ):
        assert cat.stdout is not None
        info = image_seal(cat.stdout.fileno(), target, key, suite=1, threads=3, progress=ImageProgress())
        image_open(target, out, info, key, in_order=False, threads=3, progress=ImageProgress())

    assert info.size == size
    assert (tmp_path / "opened").read_bytes() == data


@pytest.mark.parametrize("size", SIZES)
def test_a_pipe_gets_the_chunks_in_order(tmp_path: Path, size: int) -> None:
    data, path = patterned(size), tmp_path / "image"
    seal_bytes(path, data, OWNER.recipient.public)

    with (
        (tmp_path / "got").open("wb") as got,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=got) as cat,
        sealed(path) as image,
    ):
        assert cat.stdin is not None
        open_image(image, cat.stdin.fileno(), unlock_image(image, OWNER.recipient))
        cat.stdin.close()

    assert (tmp_path / "got").read_bytes() == data


@settings(max_examples=40)
@given(
    chunks=st.lists(st.sampled_from(["hole", "zeros", "data", "mixed"]), max_size=40),
    tail=st.integers(0, CHUNK - 1),
    suite=st.sampled_from(sorted(SUITES)),
)
def test_holes_and_zeros_open_as_zeros_and_take_no_room(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[str], tail: int, suite: int
) -> None:
    folder = tmp_path_factory.mktemp("holes")
    plain, path = folder / "plain", folder / "image"
    with plain.open("wb") as file:
        for number, kind in enumerate(chunks):
            if kind == "hole":
                file.seek(CHUNK, os.SEEK_CUR)
            else:
                mark = number.to_bytes(4, "big") if kind != "zeros" else bytes(4)
                file.write((mark * (CHUNK // 4)) if kind == "data" else bytes(CHUNK - 4) + mark)
        file.truncate(len(chunks) * CHUNK + tail)
    data = plain.read_bytes()

    seal_bytes(path, data, OWNER.recipient.public, suite=suite)
    (folder / "image.plain").unlink()

    assert open_bytes(path, OWNER.recipient) == data
    stored = sum(data[at : at + CHUNK].strip(b"\0") != b"" for at in range(0, len(data), CHUNK))
    assert path.stat().st_blocks * 512 <= (stored + 2) * CHUNK + PAGE


def test_two_seals_of_one_image_have_nothing_in_common(tmp_path: Path) -> None:
    first = seal_bytes(tmp_path / "a", patterned(3 * CHUNK), OWNER.recipient.public)
    second = seal_bytes(tmp_path / "b", patterned(3 * CHUNK), OWNER.recipient.public)

    assert first.root != second.root
    assert first.image_id != second.image_id
    one, other = (tmp_path / "a").read_bytes()[HEADER:], (tmp_path / "b").read_bytes()[HEADER:]
    blocks = {one[at : at + 32] for at in range(0, len(one), 32)} - {bytes(32)}
    assert not blocks & {other[at : at + 32] for at in range(0, len(other), 32)}


def test_every_recipient_opens_the_image_and_nobody_else(tmp_path: Path) -> None:
    other, stranger = make_owner(), make_owner()
    path = tmp_path / "image"
    seal_bytes(path, b"secret", OWNER.recipient.public, other.recipient.public)

    assert open_bytes(path, OWNER.recipient) == b"secret"
    assert open_bytes(path, other.recipient) == b"secret"
    with pytest.raises(SealedImageError, match="not_a_recipient"):
        open_bytes(path, stranger.recipient)


def test_an_unsigned_image_is_no_tenants(tmp_path: Path) -> None:
    path = tmp_path / "image"
    info = seal_bytes(path, b"secret", OWNER.recipient.public)

    assert info.tenant is None
    with pytest.raises(SealedImageError, match="unsigned"):
        open_bytes(path, OWNER.recipient, OWNER.tenant.verify_key)
    with sealed(path) as image, pytest.raises(SealedImageError, match="unsigned"):
        verify_signature(image.info)
    for half in ({"tenant": bytes(32)}, {"signature": bytes(64)}):
        with pytest.raises(SealedImageError, match="unsigned"):
            verify_signature(replace(info, **half))


def test_whoever_verifies_may_watch(tmp_path: Path) -> None:
    path = tmp_path / "image"
    seal_bytes(path, b"x" * 200_000, OWNER.recipient.public)
    seen: list[int] = []

    with sealed(path) as image:
        verify_tags(image, watch=lambda progress: seen.append(progress.total_bytes))
        assert len(seen) > 0
        seen.clear()
        verify_chunks(
            image, unlock_image(image, OWNER.recipient), watch=lambda progress: seen.append(progress.done_bytes)
        )
        assert seen[-1] == 200_000


def test_another_tenants_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    stranger: Owner = make_owner()
    seal_bytes(path, b"secret", OWNER.recipient.public, tenant=stranger.tenant)

    with pytest.raises(SealedImageError, match="wrong_tenant"):
        open_bytes(path, OWNER.recipient, OWNER.tenant.verify_key)


def test_another_root_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    info = seal_bytes(tmp_path / "image", b"secret", OWNER.recipient.public)

    verify_root(info, info.root)
    with pytest.raises(SealedImageError, match="wrong_root"):
        verify_root(info, bytes(32))


# Prints how many KiB its peak rose by sealing and opening, with more threads than this machine has processors.
# Not from getrusage, which counts what the parent had before the program was executed.
MEASURE = """
import os, re, sys
from pathlib import Path
from tccp.core.image import *
def peak():
    return int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
base = peak()
key = ImageKey.generate()
modes = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY)
source, target, out = (os.open(path, mode) for path, mode in zip(sys.argv[1:], modes))
info = image_seal(source, target, key, suite=1, threads=THREADS_MAX, progress=ImageProgress())
image_open(target, out, info, key, in_order=False, threads=THREADS_MAX, progress=ImageProgress())
print(peak() - base)
"""


def memory_kib(source: Path | int, target: Path, out: Path | int) -> int:
    for path in (target, out):
        if isinstance(path, Path):
            path.touch()
    paths = [f"/dev/fd/{path}" if isinstance(path, int) else str(path) for path in (source, target, out)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        capture_output=True,
        check=True,
        text=True,
        pass_fds=[path for path in (source, out) if isinstance(path, int)],
    )
    return int(done.stdout)


def test_memory_stays_bounded_whatever_the_size(tmp_path: Path) -> None:
    """An image of 16 GiB, of which 64 MiB are data."""
    plain = tmp_path / "plain"
    with plain.open("wb") as file:
        for at in range(0, 16 << 30, 256 << 20):
            file.seek(at)
            file.write(os.urandom(1 << 20))
        file.truncate(16 << 30)

    assert 1 << 10 < memory_kib(plain, tmp_path / "sealed", tmp_path / "out") < 64 << 10


def test_memory_stays_bounded_between_pipes(tmp_path: Path) -> None:
    """A gibibyte that no hole makes shorter, from a pipe and into one."""
    with (
        subprocess.Popen(["head", "-c", "1G", "/dev/zero"], stdout=subprocess.PIPE) as source,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as out,
    ):
        assert source.stdout is not None
        assert out.stdin is not None
        used = memory_kib(source.stdout.fileno(), tmp_path / "sealed", out.stdin.fileno())

    assert 16 << 10 < used < 64 << 10
