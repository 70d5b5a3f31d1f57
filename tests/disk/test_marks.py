"""A moment of a disk's history can be demanded, after a crash too: no older state passes, and no other history."""

from pathlib import Path

import pytest

from tccp.errors import DiskError
from tests.disk.opening import make_disk, open_disk

SIZE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE)
    return path


def test_a_state_from_before_the_mark_is_refused_after_a_crash(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"old")
        disk.flush()
        older = path.read_bytes()
        disk.write(0, b"new")
        disk.flush()
        mark = disk.mark()  # and then the power fails
    newer = path.read_bytes()
    path.write_bytes(older)

    with pytest.raises(DiskError, match="wrong_disk_mark"), open_disk(path, not_before=mark):
        pass
    # The control: the old state is genuine, and there is no root to demand after a crash.
    with open_disk(path, read_only=True) as disk:
        assert disk.read(0, 3) == b"old"
    path.write_bytes(newer)
    with open_disk(path, not_before=mark) as disk:
        assert disk.read(0, 3) == b"new"


def test_another_history_is_refused_however_long_it_is(path: Path) -> None:
    with open_disk(path) as disk:
        disk.flush()
        fork = path.read_bytes()
        disk.write(0, b"one")
        disk.flush()
        mark = disk.mark()
    path.write_bytes(fork)
    with open_disk(path) as disk:  # by somebody who demands nothing
        for number in range(300):
            disk.write(0, number.to_bytes(4, "little"))
            disk.flush()
        disk.close()
    with open_disk(path, read_only=True) as disk:  # the control: it is the longer one
        assert int.from_bytes(disk.mark()[:8], "little") > int.from_bytes(mark[:8], "little")

    with pytest.raises(DiskError, match="wrong_disk_mark"), open_disk(path, not_before=mark):
        pass


def test_a_last_commit_that_was_destroyed_is_missed(path: Path) -> None:
    with open_disk(path) as disk:
        disk.flush()
        before = path.read_bytes()
        disk.write(0, b"acknowledged")
        disk.flush()
        mark = disk.mark()
    content = bytearray(path.read_bytes())
    changed = next(at for at in range(65536, 131072, 4096) if content[at : at + 4096] != before[at : at + 4096])
    content[changed + 100] ^= 1  # as if it had been torn
    path.write_bytes(content)

    with pytest.raises(DiskError, match="wrong_disk_mark"), open_disk(path, not_before=mark):
        pass
    with open_disk(path) as disk:
        assert disk.read(0, 12) == bytes(12)


def test_a_mark_holds_over_checkpoints_crashes_and_clean_ends(path: Path) -> None:
    with open_disk(path) as disk:
        mark = disk.mark()
    for number in range(5):
        with open_disk(path, not_before=mark) as disk:
            for block in range(200):
                disk.write(block * 4096, bytes([number]) * 4096)
                disk.flush()
            assert disk.describe().generation > 1
            if number % 2:
                disk.close()
    with open_disk(path, not_before=mark, read_only=True) as disk:
        assert disk.read(0, 1) == b"\4"


def test_what_a_reader_was_shown_can_be_demanded_from_whoever_writes_next(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"x")
        disk.flush()
    with open_disk(path, read_only=True) as disk:
        shown = disk.describe().mark
    with open_disk(path) as disk:
        disk.write(0, b"y")
        disk.close()
    with open_disk(path, not_before=shown) as disk:
        assert disk.read(0, 1) == b"y"


def test_the_newest_63_marks_are_remembered_and_the_one_that_is_kept(path: Path) -> None:
    marks = []
    with open_disk(path) as disk:
        for number in range(200):
            disk.write(0, bytes([number]))
            disk.flush()
            marks.append(disk.mark())
            if number == 20:
                disk.mark_kept(marks[10])
                with pytest.raises(DiskError, match="wrong_disk_mark"):
                    disk.mark_kept(marks[9])
        disk.close()

    for remembered in (10, 137, 199):
        with open_disk(path, not_before=marks[remembered], read_only=True):
            pass
    for forgotten in (9, 11, 136):
        with pytest.raises(DiskError, match="wrong_disk_mark"), open_disk(path, not_before=marks[forgotten]):
            pass


def test_a_mark_that_was_demanded_is_one_that_somebody_keeps(path: Path) -> None:
    with open_disk(path) as disk:
        mark = disk.mark()
    with open_disk(path, not_before=mark) as disk:
        for _ in range(200):
            disk.write(0, b"x")
            disk.flush()
            disk.mark()
    with open_disk(path, not_before=mark, read_only=True):
        pass


def test_the_mark_of_another_disk_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.disk"
    make_disk(other, SIZE)
    with open_disk(other) as disk:
        mark = disk.mark()
    with pytest.raises(DiskError, match="wrong_disk_mark"), open_disk(path, not_before=mark):
        pass
