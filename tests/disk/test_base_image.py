"""Live disks over sealed images."""

import os
import random
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tccp.core.disk import BLOCK_BYTES, create_disk
from tccp.disk.file import open_base
from tccp.errors import DiskError
from tests.disk.opening import disk_key, open_disk
from tests.disk.serving import ServedDisk
from tests.image.images import image_key, make_owner, opened, seal_bytes

SIZE = 1 << 20


class Made(NamedTuple):
    image: Path
    disk: Path
    key: bytes
    content: bytes


def seal(path: Path, content: bytes) -> bytes:
    """Seal *content*; the image's key."""
    owner = make_owner()
    seal_bytes(path, content, owner.recipient.public)
    key = image_key(path, owner.recipient)  # the buffer lives no longer than the key
    return bytes(key.buffer)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    content = random.Random(1).randbytes(300_000) + bytes(200_000) + random.Random(2).randbytes(100_001)
    image, disk = tmp_path / "vm.sealed", tmp_path / "vm.disk"
    key = seal(image, content)
    with disk.open("x+b") as file, open_base(image, disk_key(key)) as base:
        create_disk(file.fileno(), disk_key(key), SIZE, base=base, log_bytes=65536)
    return Made(image, disk, key, content)


def test_a_new_disk_shows_the_image_and_zeros_behind_it(made: Made) -> None:
    with open_disk(made.disk, key=made.key, base=made.image) as disk:
        assert disk.read(0, SIZE) == made.content + bytes(SIZE - len(made.content))
        assert disk.verify(0, SIZE // BLOCK_BYTES) == (0, 0)
        assert disk.read(123_456, 7) == made.content[123_456:123_463]


def test_writes_cover_the_image_and_leave_it_as_it_was(made: Made) -> None:
    before = made.image.read_bytes()
    expected = bytearray(made.content + bytes(SIZE - len(made.content)))
    with open_disk(made.disk, key=made.key, base=made.image) as disk:
        disk.write(100, b"over")
        disk.zero(40_000, 20_000)
        root = disk.close()
    expected[100:104] = b"over"
    expected[40_000:60_000] = bytes(20_000)

    with open_disk(made.disk, key=made.key, base=made.image, root=root, read_only=True) as disk:
        assert disk.read(0, SIZE) == bytes(expected)
    assert made.image.read_bytes() == before


def test_holes_of_the_image_are_holes_of_the_disk(made: Made) -> None:
    with open_disk(made.disk, key=made.key, base=made.image) as disk:
        is_data, length = disk.extent(0, SIZE)
        assert is_data
        assert length == 327_680
        assert disk.extent(length, SIZE - length) == (False, 131_072)


def test_a_disk_over_an_image_opens_over_no_other_and_not_alone(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "other.sealed"
    other_key = seal(other, made.content)
    with pytest.raises(DiskError, match="wrong_base_image"), open_disk(made.disk, key=made.key):
        pass
    with pytest.raises(DiskError, match="wrong_key"), open_disk(made.disk, key=made.key, base=other):
        pass
    with pytest.raises(DiskError, match="wrong_disk_key"), open_disk(made.disk, key=other_key, base=other):
        pass


def test_another_image_than_the_one_asked_for_is_refused(made: Made) -> None:
    with pytest.raises(DiskError, match="wrong_root"), open_base(made.image, disk_key(made.key), root=bytes(32)):
        pass


def test_a_served_disk_shows_the_image_to_many_readers_at_once(made: Made, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    served = ServedDisk(made.disk, tmp_path / "vm.sock", "--base", str(made.image), key=made.key)
    try:
        command = ["nbdcopy", "--connections=4", "--requests=64", "--request-size=4096", served.uri, str(copy)]
        subprocess.run(command, check=True)
        assert copy.read_bytes() == made.content + bytes(SIZE - len(made.content))
        served.stop()
    finally:
        served.kill()


def test_an_altered_image_is_found_by_the_read_that_meets_it(made: Made) -> None:
    with opened(made.image, os.O_RDWR) as file:
        os.pwrite(file, b"\xff", 69_632 + 65_536 + 17)  # in the second chunk
    with open_disk(made.disk, key=made.key, base=made.image) as disk:
        assert disk.read(0, 65_536) == made.content[:65_536]
        with pytest.raises(DiskError, match="chunk_altered"):
            disk.read(65_536, 512)
        assert disk.verify(0, SIZE // BLOCK_BYTES) == (16, 16)
