"""One root for all of a VM: what stands in its folder beside it, and what is demanded of each part."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tccp.errors import DiskError
from tccp.node.launch import VmOrder
from tccp.node.vm.end import VmEnd
from tccp.node.vm_folder import VmFolder, kept_name, marks_of

ROOTS = (b"\x01" * 32, b"\x02" * 32)
VTPM = b"\x03" * 32
MARKS = tuple(bytes([number]) * 40 for number in (7, 8, 9))


def folder(
    path: Path, count: int, root: bytes = b"", *, generation: int = 0, marks: bytes = b"", incoming: Sequence[int] = ()
) -> VmFolder:
    images = tuple(
        SimpleNamespace(
            role="disk", path=path / str(number), key=None, sealed=SimpleNamespace(info=SimpleNamespace(root=b""))
        )
        for number in range(count)
    )
    keys = SimpleNamespace(disk_root=root or None, marks=marks, generation=generation)
    return VmFolder(path, cast("VmOrder", SimpleNamespace(images=images, keys=keys, incoming=incoming, state=None)))


def ended(count: int, *, reason: str = "killed", vtpm: bytes = VTPM) -> VmEnd:
    return VmEnd(reason, "", ROOTS[:count], MARKS[1 : 1 + count], vtpm, MARKS[0])  # type: ignore[arg-type]


def demanded(found: VmFolder) -> tuple[list[bytes | None], list[bytes | None], bytes | None, bytes | None]:
    disks, vtpm = found.demands()
    return [disk.live_root for disk in disks], [disk.live_mark for disk in disks], vtpm.state_sha256, vtpm.mark


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_root_of_a_good_end_stands_for_each_disk_and_the_vtpm(tmp_path: Path, count: int) -> None:
    one = folder(tmp_path, count).left(ended(count))

    assert len(one) == 32
    assert demanded(folder(tmp_path, count, one)) == (list(ROOTS[:count]), [None] * count, VTPM, None)
    assert one != folder(tmp_path, count).left(ended(count, vtpm=bytes(32)))


def test_roots_that_were_altered_exchanged_or_removed_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path, 2).left(ended(2))
    file = tmp_path / "roots"

    for content in (ROOTS[1] + ROOTS[0] + VTPM, ROOTS[0] + ROOTS[1] + bytes(32), ROOTS[0] + ROOTS[1], b"", bytes(97)):
        file.write_bytes(content)
        with pytest.raises(DiskError, match="vm_roots"):
            folder(tmp_path, 2, one).demands()
    file.unlink()
    with pytest.raises(DiskError, match="vm_roots") as refused:
        folder(tmp_path, 2, one).demands()
    assert "--any-disk-state" in refused.value.hint


def test_a_suspended_vm_needs_its_disks_alone(tmp_path: Path) -> None:
    assert folder(tmp_path, 1).left(ended(1, reason="suspended", vtpm=b"")) == ROOTS[0]
    assert demanded(folder(tmp_path, 1, ROOTS[0], generation=1)) == ([ROOTS[0]], [None], None, None)

    two = folder(tmp_path, 2).left(ended(2, reason="suspended", vtpm=b""))
    assert demanded(folder(tmp_path, 2, two, generation=1))[0] == list(ROOTS)
    with pytest.raises(DiskError, match="vm_roots"):  # it is of no start
        folder(tmp_path, 2, two).demands()


@pytest.mark.parametrize("count", [1, 2])
def test_so_does_one_that_has_not_gone_on_from_its_state(tmp_path: Path, count: int) -> None:
    left = folder(tmp_path, count).left(ended(count, reason="suspended", vtpm=b""))
    unrun = replace(ended(count), has_run=False)

    assert folder(tmp_path, count, left, generation=1).left(unrun) == left
    assert demanded(folder(tmp_path, count, left, generation=1))[0] == list(ROOTS[:count])
    assert folder(tmp_path, count, left).left(unrun) != left  # the control: it was to start, with its vTPM's state


def test_marks_are_the_vtpms_and_then_each_disks(tmp_path: Path) -> None:
    marks = marks_of(ended(2))
    assert marks == b"".join(MARKS)

    assert demanded(folder(tmp_path, 2, marks=marks)) == ([None] * 2, list(MARKS[1:]), None, MARKS[0])
    for count in (1, 3):
        with pytest.raises(DiskError, match="vm_marks"):
            folder(tmp_path, count, marks=marks).demands()
    # The disks of a VM that arrives are new ones.
    assert demanded(folder(tmp_path, 2, marks=MARKS[0], incoming=[1])) == ([None] * 2, [None] * 2, None, MARKS[0])


def test_what_nobody_can_say_is_none(tmp_path: Path) -> None:
    unknown = VmEnd("disk_failed", "", (ROOTS[0], None), (MARKS[1], b""), VTPM, MARKS[0])

    assert folder(tmp_path, 2).left(unknown) == b""
    assert marks_of(unknown) == b""
    assert folder(tmp_path, 1).left(ended(1, vtpm=b"")) == b""


def test_a_folder_in_which_nothing_can_be_written_does_not_lose_the_vm(tmp_path: Path) -> None:
    """It is recorded by its marks, and a state that was sealed can be resumed."""
    (tmp_path / "disk0.live").write_bytes(b"disk")
    (tmp_path / "roots").mkdir()
    (tmp_path / kept_name(1, "disk0.live")).mkdir()

    assert folder(tmp_path, 1).left(ended(1)) == b""
    assert marks_of(ended(1)) == b"".join(MARKS[:2])
    folder(tmp_path, 1).keep_disks(1)

    assert (tmp_path / "disk0.live").read_bytes() == b"disk"
    assert not list(tmp_path.glob("*.partial"))
