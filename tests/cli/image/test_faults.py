"""Whatever ends a seal or an open too early: nothing is left, and what was there is there."""

import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.image.conftest import Run
from tests.cli.running import TCCP, tccp

PATIENCE_S = 30.0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system with room for 8 MiB."""
    with tempfile.TemporaryDirectory(prefix="tccp-full-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.fail(f"this test must be allowed to mount a tmpfs: {mounted.stderr.decode()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.fixture
def large(work: Path) -> Path:
    """A disk of 32 MiB without a hole."""
    path = work / "large.raw"
    path.write_bytes(os.urandom(32 << 20))
    return path


def test_a_full_disk_leaves_nothing_and_touches_nothing(work: Path, large: Path, small_disk: Path) -> None:
    (small_disk / "out").write_bytes(b"was there")

    ended = tccp("image", "seal", large, small_disk / "out", "--to", work / "me.pub", "--json")

    assert ended.code == 3
    assert ended.document["error"] == "enospc"
    assert names(small_disk) == ["out"]
    assert (small_disk / "out").read_bytes() == b"was there"
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize > 7 << 20


def test_opening_onto_a_full_disk_leaves_nothing(run: Run, work: Path, large: Path, small_disk: Path) -> None:
    assert run("image", "seal", large, "large.sealed", "--to", "me.pub").code == 0

    ended = tccp("image", "open", work / "large.sealed", small_disk / "out", "--key", work / "me.key", "--json")

    assert ended.code == 3
    assert ended.document["error"] == "enospc"
    assert names(small_disk) == []


def start_endless_seal(work: Path) -> "subprocess.Popen[bytes]":
    """A seal from a pipe that is open and has given a part; returns when it has been read."""
    child = subprocess.Popen(
        [TCCP, "image", "seal", "-", work / "out", "--to", work / "me.pub"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    child.stdin.write(os.urandom(20 << 20))
    child.stdin.flush()
    return child


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_seal_that_is_ended_leaves_nothing_and_touches_nothing(work: Path, ending: signal.Signals) -> None:
    (work / "out").write_bytes(b"was there")
    before = names(work)
    child = start_endless_seal(work)

    child.send_signal(ending)

    _, complaint = child.communicate(timeout=PATIENCE_S)
    assert names(work) == before
    assert (work / "out").read_bytes() == b"was there"
    assert child.returncode == (130 if ending == signal.SIGINT else -ending)
    if ending == signal.SIGINT:
        assert complaint == b"tccp: interrupted\n"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_an_open_that_is_ended_leaves_nothing_and_touches_nothing(
    work: Path, sealed: Path, ending: signal.Signals
) -> None:
    """Half of the image came through the pipe, and the other half never does."""
    (work / "out").write_bytes(b"was there")
    before = names(work)
    child = subprocess.Popen(
        [TCCP, "image", "open", "-", work / "out", "--key", work / "me.key"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    child.stdin.write(sealed.read_bytes()[: sealed.stat().st_size // 2])
    child.stdin.flush()

    child.send_signal(ending)

    child.communicate(timeout=PATIENCE_S)
    assert names(work) == before
    assert (work / "out").read_bytes() == b"was there"
    assert child.returncode == (130 if ending == signal.SIGINT else -ending)


def test_an_open_whose_reader_does_not_read_can_be_interrupted(work: Path, large: Path, run: Run) -> None:
    assert run("image", "seal", large, "large.sealed", "--to", "me.pub").code == 0
    command = [TCCP, "image", "open", work / "large.sealed", "-", "--key", work / "me.key"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(100) == large.read_bytes()[:100]

        child.send_signal(signal.SIGINT)

        assert child.wait(PATIENCE_S) == 130


def test_an_image_that_does_not_verify_leaves_nothing(work: Path, sealed: Path) -> None:
    content = bytearray(sealed.read_bytes())
    content[65536 + 4096 + 40 * 65536 + 5] ^= 1
    sealed.write_bytes(content)
    before = names(work)

    ended = tccp("image", "open", sealed, work / "out.raw", "--key", work / "me.key", "--json")

    assert ended.code == 1
    assert ended.document["error"] == "chunk_altered"
    assert "chunk 40" in ended.document["detail"]
    assert names(work) == before


def test_a_reader_that_goes_away_ends_an_open(work: Path, large: Path, run: Run) -> None:
    assert run("image", "seal", large, "large.sealed", "--to", "me.pub").code == 0
    command = [TCCP, "image", "open", work / "large.sealed", "-", "--key", work / "me.key"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(100) == large.read_bytes()[:100]
        child.stdout.close()

        assert child.wait(PATIENCE_S) == 141


def test_a_rewrap_that_was_torn_is_finished_by_the_next(run: Run, work: Path, sealed: Path) -> None:
    """The state that a power cut leaves: the new header beside the image, and in it half of that."""
    whole = sealed.read_bytes()
    assert run("image", "rewrap", sealed, "--key", "me.key", "--add", "other.pub").code == 0
    (work / ".disk.sealed.new-header").write_bytes(sealed.read_bytes()[:65536])
    sealed.write_bytes(whole[:2048] + os.urandom(20_000) + whole[22_048:])
    assert run("image", "verify", sealed, "--key", "other.key").code == 1

    assert run("image", "rewrap", sealed, "--key", "other.key", "--remove", "me.pub").code == 0

    assert run("image", "verify", sealed, "--key", "other.key", "--tenant", "tenant.pub").code == 0
    assert not (work / ".disk.sealed.new-header").exists()


def test_who_was_removed_does_not_come_back_with_a_power_cut(run: Run, work: Path, sealed: Path) -> None:
    """What is beside the image when the power fails before the folder is synced: the file that was taken away last."""
    assert run("key", "generate", "third.key").code == 0
    assert run("image", "rewrap", sealed, "--key", "me.key", "--add", "other.pub").code == 0
    beside: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **_: beside.append(path))
        assert run("image", "rewrap", sealed, "--key", "me.key", "--remove", "other.pub").code == 0
    assert list(work.glob(".disk.sealed.*")) == beside

    assert run("image", "rewrap", sealed, "--key", "me.key", "--add", "third.pub").code == 0

    assert run("image", "verify", sealed, "--key", "third.key").code == 0
    assert run("image", "verify", sealed, "--key", "other.key", "--json").document["error"] == "not_a_recipient"


def test_only_one_at_a_time_changes_the_recipients(run: Run, work: Path, sealed: Path) -> None:
    with sealed.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = run("image", "rewrap", sealed, "--key", "me.key", "--add", "other.pub", "--json")
    assert refused.document["error"] == "image_in_use"
    assert run("image", "rewrap", sealed, "--key", "me.key", "--add", "other.pub").code == 0


def test_the_new_header_of_another_image_is_not_brought_in(run: Run, work: Path, sealed: Path) -> None:
    (work / ".disk.sealed.new-header").write_bytes(sealed.read_bytes()[:65536])
    assert run("image", "seal", "disk.raw", sealed, "--to", "other.pub").code == 0

    assert run("image", "rewrap", sealed, "--key", "other.key", "--add", "me.pub").code == 0

    assert run("image", "verify", sealed, "--key", "me.key").code == 0
