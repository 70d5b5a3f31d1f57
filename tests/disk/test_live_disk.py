"""What a live disk promises to whoever writes to it, and what it finds out about whoever holds the file."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tccp.core.disk import BLOCK_BYTES, DiskKey, create_disk
from tccp.core.image import SUITES
from tccp.disk.file import is_unmade
from tccp.errors import DiskError, HostError
from tests.disk.opening import KEY, SMALL_LOG_BYTES, disk_key, make_disk, open_disk

SIZE = 4 << 20


@pytest.fixture(params=SUITES, ids=SUITES.values())
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE, suite=request.param)
    return path


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_new_disk_reads_as_zeros(path: Path) -> None:
    with open_disk(path) as disk:
        assert disk.read(0, SIZE) == bytes(SIZE)
        assert disk.extent(0, SIZE) == (False, SIZE)


def test_what_was_flushed_is_there_when_the_disk_was_just_forgotten(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(10_000, b"kept" * 5000)
        disk.flush()

    with open_disk(path) as disk:
        assert disk.read(10_000, 20_000) == b"kept" * 5000
        assert disk.read(9_990, 10) == bytes(10)
        assert disk.describe().replayed == 2  # the record of the opening, and the flush


def test_bytes_of_any_offset_and_length_are_written_as_in_a_file(path: Path) -> None:
    model = bytearray(SIZE)
    choose = random.Random(7)
    with open_disk(path) as disk:
        for _ in range(400):
            offset = choose.randrange(SIZE)
            length = choose.choice([1, 512, 4096, 5000, 65536, 300_000]) % (SIZE - offset) or 1
            if choose.random() < 0.3:
                disk.zero(offset, length)
                model[offset : offset + length] = bytes(length)
            else:
                content = choose.randbytes(length)
                disk.write(offset, content)
                model[offset : offset + length] = content
        assert disk.read(0, SIZE) == bytes(model)
        root = disk.close()
    with open_disk(path, root=root, read_only=True) as disk:
        assert disk.read(0, SIZE) == bytes(model)


def test_nothing_of_what_was_written_stands_in_the_file(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"a secret of the tenant, " * 1000)
        disk.close()

    content = path.read_bytes()
    assert b"secret" not in content
    assert KEY not in content


def test_the_same_block_written_twice_is_stored_as_different_bytes(path: Path) -> None:
    block = b"again" * 819 + b"!"
    with open_disk(path) as disk:
        disk.write(0, block)
        disk.write(BLOCK_BYTES, block)
        disk.close()

    slots = [content for content in chunks(path) if any(content)]
    assert len(slots) == len(set(slots))


def chunks(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[at : at + BLOCK_BYTES] for at in range(131_072, len(content), BLOCK_BYTES)]


def test_discarded_blocks_give_their_room_back(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, random.Random(1).randbytes(SIZE))
        disk.flush()
        full = allocated(path)
        disk.zero(0, SIZE)
        disk.flush()

        assert allocated(path) < full - SIZE * 3 // 4
        assert disk.read(0, SIZE) == bytes(SIZE)
        assert disk.describe().data_bytes == 0


def test_a_disk_grows_and_keeps_what_it_had(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(SIZE - 4, b"end.")
        disk.grow(1 << 40)
        disk.write((1 << 40) - 4, b"END.")
        root = disk.close()

    with open_disk(path, root=root) as disk:
        assert disk.read(SIZE - 4, 8) == b"end." + bytes(4)
        assert disk.read((1 << 40) - 4, 4) == b"END."
    assert allocated(path) < 2 << 20


def test_compacting_frees_what_overwriting_left_and_changes_nothing(path: Path) -> None:
    choose = random.Random(3)
    with open_disk(path) as disk:
        for _ in range(3):
            disk.write(0, choose.randbytes(SIZE))
            disk.flush()
        content = choose.randbytes(1 << 20)
        disk.write(0, content)
        disk.zero(1 << 20, SIZE - (1 << 20))
        before = allocated(path)
        assert disk.compact() > 0
        assert allocated(path) < before // 2
        root = disk.close()
    with open_disk(path, root=root) as disk:
        assert disk.read(0, SIZE) == content + bytes(SIZE - (1 << 20))


def test_another_key_is_told_apart_from_altered_bytes(path: Path) -> None:
    with pytest.raises(DiskError, match="wrong_disk_key"), open_disk(path, key=bytes(32)):
        pass


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes_and_not_one_more(length: int) -> None:
    with pytest.raises(DiskError, match="malformed"):
        disk_key(bytes(length))


def test_a_key_that_cannot_be_read_is_the_hosts_fault(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(HostError, match="os_error"):
            DiskKey(folder)
    finally:
        os.close(folder)


@pytest.mark.parametrize("length", [0, 1, 65536, 100_000, 131_072])
def test_a_disk_is_made_in_what_a_killed_creation_left(tmp_path: Path, length: int) -> None:
    path = tmp_path / "half.disk"
    path.write_bytes(bytes(length))
    with path.open("r+b") as file:
        assert is_unmade(file.fileno())
        create_disk(file.fileno(), disk_key(), SIZE, log_bytes=SMALL_LOG_BYTES)
        assert not is_unmade(file.fileno())
    with open_disk(path) as disk:
        assert disk.read(0, SIZE) == bytes(SIZE)


def test_no_disk_is_made_over_anything_else(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(200_000) + b"data")
    for there in (path, other):
        before = there.read_bytes()
        with there.open("r+b") as file, pytest.raises(AssertionError):
            create_disk(file.fileno(), disk_key(), SIZE, log_bytes=SMALL_LOG_BYTES)
        assert there.read_bytes() == before


def test_a_file_that_is_no_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "not.disk"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(DiskError, match="malformed"), open_disk(path):
        pass


def test_no_byte_of_the_file_can_be_changed_unseen(path: Path) -> None:
    written = random.Random(5).randbytes(40 * BLOCK_BYTES)
    with open_disk(path) as disk:
        disk.write(0, written)
        root = disk.close()
    original = path.read_bytes()

    # Everything after the ring is slots, and the older superblock and the records before the checkpoint are history.
    seen = 0
    for at in range(131_072, len(original), 1021):
        altered = bytearray(original)
        altered[at] ^= 0x20
        path.write_bytes(altered)
        try:
            with open_disk(path, root=root, read_only=True) as disk:
                bad, _ = disk.verify(0, SIZE // BLOCK_BYTES)
                seen += bad
                # A slot that nobody refers to may hold anything.
                assert bad or disk.read(0, len(written)) == written
        except DiskError as error:
            assert error.reason == "disk_corrupt"  # noqa: PT017 - some positions are in the tree, others in blocks
            seen += 1
    assert seen > 100


def test_two_blocks_cannot_change_places(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"A" * BLOCK_BYTES + b"B" * BLOCK_BYTES)
        root = disk.close()
    content = bytearray(path.read_bytes())
    first = slice(131_072, 131_072 + BLOCK_BYTES)
    second = slice(131_072 + BLOCK_BYTES, 131_072 + 2 * BLOCK_BYTES)
    content[first], content[second] = content[second], content[first]
    path.write_bytes(content)

    with open_disk(path, root=root, read_only=True) as disk, pytest.raises(DiskError, match="disk_corrupt"):
        disk.read(0, BLOCK_BYTES)


def test_a_file_cut_short_is_refused(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, random.Random(6).randbytes(1 << 20))
        root = disk.close()
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(DiskError, match="disk_corrupt"), open_disk(path, root=root):
        pass


def test_an_older_copy_of_the_file_is_refused_when_its_root_is_demanded(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"old")
        older_root = disk.close()
    older = path.read_bytes()
    with open_disk(path, root=older_root) as disk:
        disk.write(0, b"new")
        root = disk.close()
    newer = path.read_bytes()
    path.write_bytes(older)

    with pytest.raises(DiskError, match="wrong_disk_root"), open_disk(path, root=root):
        pass
    # The control: the old copy is genuine, and without a root nobody can tell.
    with open_disk(path, read_only=True) as disk:
        assert disk.read(0, 3) == b"old"
    path.write_bytes(newer)
    with open_disk(path, root=root) as disk:
        assert disk.read(0, 3) == b"new"


def test_writes_after_the_demanded_root_are_noticed(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"one")
        root = disk.close()
    with open_disk(path, root=root) as disk:
        disk.write(0, b"two")
        disk.flush()

    with pytest.raises(DiskError, match="wrong_disk_root"), open_disk(path, root=root):
        pass


def test_opening_to_read_changes_nothing_in_the_file(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"content")
        disk.flush()
    before = path.read_bytes()
    with open_disk(path, read_only=True) as disk:
        assert disk.read(0, 7) == b"content"
        disk.flush()

    assert path.read_bytes() == before


FULL = """
import pathlib, resource, signal, sys
from tccp.errors import HostError
from tests.disk.opening import open_disk
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_disk(pathlib.Path(sys.argv[1])) as disk:
    disk.write(0, b"before" * 1000)
    disk.flush()
    try:
        disk.write(8192, bytes(range(256)) * 12288)
        sys.exit("it had room")
    except HostError as error:
        assert error.reason == "no_space"
    disk.zero(8192, 3 << 20)
    disk.flush()
    disk.write(4, b"after")
    disk.flush()
"""


def test_a_full_file_system_fails_the_write_and_discarding_makes_room_again(path: Path) -> None:
    subprocess.run([sys.executable, "-c", FULL, str(path)], check=True)

    with open_disk(path) as disk:
        assert disk.read(0, 12) == b"befoafterore"
        assert disk.verify(0, SIZE // BLOCK_BYTES)[0] == 0


WRITER = """
import pathlib, random, sys
from tests.disk.opening import open_disk
choose = random.Random(int(sys.argv[2]))
with open_disk(pathlib.Path(sys.argv[1])) as disk:
    number = int.from_bytes(disk.read(0, 8), "little")
    print(number, flush=True)
    while True:
        number += 1
        for block in choose.sample(range(1, 1000), choose.randrange(1, 60)):
            disk.write(block * 4096, number.to_bytes(8, "little") * 512)
        disk.write(0, number.to_bytes(8, "little") * 512)
        disk.flush()
        print(number, flush=True)
"""


def test_what_a_killed_writer_was_told_is_durable_is_there(path: Path) -> None:
    acknowledged = 0
    for seed in range(5):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged % 40 == 39:
                child.send_signal(signal.SIGKILL)
                break
        # What was still in the pipe had been answered, too.
        acknowledged = max([acknowledged, *(int(line) for line in child.stdout.read().split(b"\n")[:-1])])
        child.wait()
        child.stdout.close()
        with open_disk(path, read_only=True) as disk:
            assert disk.verify(0, SIZE // BLOCK_BYTES) == (0, 0)
            assert int.from_bytes(disk.read(0, 8), "little") >= acknowledged
