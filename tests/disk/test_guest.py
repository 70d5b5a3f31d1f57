"""A real guest keeps a file system on a served disk while the disk's process or the guest is killed."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tccp.core.disk import create_disk
from tccp.disk.file import open_base
from tests.disk.clients import run
from tests.disk.opening import disk_key, make_disk
from tests.disk.serving import ServedDisk, served_disk
from tests.image.images import image_key, make_owner, seal_bytes
from tests.support.guest import Guest, make_initramfs

SIZE = 48 << 20
FILES_BEFORE_THE_KILL = 12
# Each file differs in content and length; a name is said when the file and what leads to it were synced. Older ones are
# removed, so that the log of the file system and that of the disk go round, and blocks are discarded.
WRITE_FILES = """
set -e
/usr/bin/mke2fs -q -t ext4 -J size=4 /dev/vda
mount -t ext4 -o discard /dev/vda /mnt
number=0
while true; do
    number=$((number + 1))
    kib=$((number * 37 % 300 + 1))
    yes "file $number" | dd of=/mnt/$number bs=1k count=$kib iflag=fullblock conv=fsync 2>/dev/null
    echo "synced: $number"
    if [ $((number % 5)) = 0 ]; then
        rm /mnt/$((number - 4))
        sync
        echo "removed: $((number - 4))"
    fi
done
"""
LOOK_AND_GO_ON = """
set -e
mount -t ext4 /dev/vda /mnt
cd /mnt
for file in [0-9]*; do
    echo "sum: $file $(sha256sum < $file)"
done
echo from the second life > after
cd /
umount /mnt
"""
ANSWER_A_GREETING = """
set -e
mount -t ext4 /dev/vda /mnt
echo "greeting: $(cat /mnt/greeting)"
echo from the guest > /mnt/answer
umount /mnt
"""


def content_of(number: int) -> bytes:
    line, length = f"file {number}\n".encode(), (number * 37 % 300 + 1) << 10
    return (line * (length // len(line) + 1))[:length]


def virtio_disk(served: ServedDisk) -> tuple[str, str]:
    return "-drive", f"file=nbd:unix:{served.socket},format=raw,if=virtio,discard=unmap,cache=writeback"


def files_after(image: Path, folder: Path) -> dict[str, bytes]:
    """What a file system holds once its journal was replayed; it must be consistent."""
    run("e2fsck", "-y", "-E", "journal_only", image)
    run("e2fsck", "-f", "-n", image)
    folder.mkdir()
    run("debugfs", "-R", f"rdump / {folder}", image)
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def write_until_killed(
    path: Path, tmp_path: Path, kill: Callable[[ServedDisk, Guest], None], *, script: str = WRITE_FILES
) -> tuple[set[int], set[int]]:
    """Runs the guest, and kills in the middle of its writing; which files were synced to stay, and which removed."""
    make_disk(path, SIZE, log_bytes=1 << 20)
    initramfs = make_initramfs(tmp_path / "initramfs", script, programs=["mke2fs"])
    with served_disk(path) as served, Guest(initramfs, *virtio_disk(served)) as guest:
        while guest.wait_for_line("synced: ") != str(FILES_BEFORE_THE_KILL):
            pass
        kill(served, guest)
    synced, removed = (
        {int(line.removeprefix(start)) for line in guest.said if line.startswith(start)}
        for start in ("synced: ", "removed: ")
    )
    # The next one to be removed may be gone already.
    return {number for number in synced if number % 5 != 1}, removed


@contextmanager
def served_over(sealed: Path, path: Path, key: bytes, *arguments: str) -> Iterator[ServedDisk]:
    served = ServedDisk(path, path.with_suffix(".sock"), "--base", str(sealed), *arguments, key=key)
    try:
        yield served
    finally:
        served.kill()


def read_served(path: Path, image: Path) -> None:
    with served_disk(path) as served:
        run("nbdcopy", served.uri, image)


def kill_disk(served: ServedDisk, guest: Guest) -> None:
    served.kill()


def kill_guest(served: ServedDisk, guest: Guest) -> None:
    guest.kill()


def kill_guest_then_disk(served: ServedDisk, guest: Guest) -> None:
    guest.kill()
    served.kill()


@pytest.mark.parametrize("kill", [kill_disk, kill_guest, kill_guest_then_disk])
def test_every_file_that_a_guest_synced_is_there_after_a_kill(
    tmp_path: Path, kill: Callable[[ServedDisk, Guest], None]
) -> None:
    path, image = tmp_path / "vm.disk", tmp_path / "image"
    kept, removed = write_until_killed(path, tmp_path, kill)
    assert len(kept) > len(removed) > 0
    read_served(path, image)
    found = files_after(image, tmp_path / "files")
    assert {number: found.get(str(number)) for number in kept} == {number: content_of(number) for number in kept}
    assert not {str(number) for number in removed} & {*found}


def test_a_guest_that_boots_again_finds_what_it_synced_and_goes_on(tmp_path: Path) -> None:
    path, image = tmp_path / "vm.disk", tmp_path / "image"
    kept, _ = write_until_killed(path, tmp_path, kill_guest_then_disk)
    initramfs = make_initramfs(tmp_path / "initramfs", LOOK_AND_GO_ON)
    with served_disk(path) as served, Guest(initramfs, *virtio_disk(served)) as guest:
        guest.wait()
        served.stop()
    sums = dict(line.split()[1:3] for line in guest.said if line.startswith("sum: "))
    assert {number: sums.get(str(number)) for number in kept} == {
        number: sha256(content_of(number)).hexdigest() for number in kept
    }
    read_served(path, image)
    run("e2fsck", "-f", "-n", image)
    assert run("debugfs", "-R", "cat /after", image) == "from the second life\n"


def test_without_the_syncs_of_the_guest_the_same_kill_loses_files(tmp_path: Path) -> None:
    """The control: what a guest only wrote is in its own memory."""
    path, image, folder = tmp_path / "vm.disk", tmp_path / "image", tmp_path / "files"
    careless = WRITE_FILES.replace(" conv=fsync", "").replace("        sync\n", "")
    kept, _ = write_until_killed(path, tmp_path, kill_guest, script=careless)
    read_served(path, image)
    folder.mkdir()
    for program in (["e2fsck", "-y", "-f", image], ["debugfs", "-R", f"rdump / {folder}", image]):  # what can be saved
        subprocess.run(program, capture_output=True, check=False)
    found = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert any(found.get(str(number)) != content_of(number) for number in kept)


def test_a_guest_lives_on_a_disk_over_a_sealed_image(tmp_path: Path) -> None:
    plain, sealed, path = tmp_path / "plain", tmp_path / "vm.sealed", tmp_path / "vm.disk"
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "greeting").write_text("from the tenant\n")
    run("mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "first", plain, f"{SIZE >> 10}k")
    owner = make_owner()
    seal_bytes(sealed, plain.read_bytes(), owner.recipient.public)
    image = image_key(sealed, owner.recipient)
    key = bytes(image.buffer)
    with path.open("x+b") as file, open_base(sealed, disk_key(key)) as base:
        create_disk(file.fileno(), disk_key(key), SIZE, base=base, log_bytes=1 << 20)

    initramfs = make_initramfs(tmp_path / "initramfs", ANSWER_A_GREETING)
    with served_over(sealed, path, key) as served:
        with Guest(initramfs, *virtio_disk(served)) as guest:
            assert guest.wait_for_line("greeting: ") == "from the tenant"
            guest.wait()
        root = served.stop()
    assert root is not None
    with served_over(sealed, path, key, "--root", root.hex(), "--read-only") as served:
        run("nbdcopy", served.uri, tmp_path / "image")
    run("e2fsck", "-f", "-n", tmp_path / "image")
    assert run("debugfs", "-R", "cat /answer", tmp_path / "image") == "from the guest\n"
    assert run("debugfs", "-R", "cat /greeting", tmp_path / "image") == "from the tenant\n"
