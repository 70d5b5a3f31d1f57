"""The writer: what it makes, what it repairs, and what it refuses to go on with."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tccp.errors import LogError, StoreError
from tccp.merkle import EMPTY_ROOT
from tccp.transparency.checkpoint import Checkpoint, verify_checkpoint
from tccp.transparency.proof import TileHashes, prove_inclusion, verify_inclusion
from tccp.transparency.tile import ENTRIES, ENTRY_BYTES_MAX, Tile, decode_entries, tile_at
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.writer import LogWriter
from tests.transparency.crashing import check
from tests.transparency.support import ORIGIN, entries_of, naive_root, signer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(directory: Path) -> Iterator[LogWriter]:
    with LogWriter.create(directory, signer()) as writer:
        yield writer


def reopened(directory: Path, signed: Checkpoint | None = None) -> LogWriter:
    return LogWriter.open(directory, signer(), signed=signed)


def test_a_new_log_is_empty_and_says_so(log: LogWriter, directory: Path) -> None:
    head = verify_checkpoint((directory / "checkpoint").read_bytes(), origin=ORIGIN, log_key=signer().key)

    assert (head.checkpoint.size, head.checkpoint.root) == (0, EMPTY_ROOT)
    assert log.append(0, []).checkpoint.size == 0


def test_what_is_appended_is_proved_from_the_files(log: LogWriter, directory: Path) -> None:
    log.append(0, entries_of(700))
    head = verify_checkpoint((directory / "checkpoint").read_bytes(), origin=ORIGIN, log_key=signer().key).checkpoint
    files = TileDirectory(directory)

    for index in (0, 255, 256, 511, 512, 699):
        path = prove_inclusion(TileHashes(files.read_tile, head.size), index)
        verify_inclusion(entries_of(1, index)[0], index, size=head.size, root=head.root, path=path)


batches = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30)), max_size=5)


@given(batches=batches, reopen=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batches_with_repetitions_make_the_same_tree(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, int]], *, reopen: bool
) -> None:
    directory = tmp_path_factory.mktemp("logs") / "log"
    log = LogWriter.create(directory, signer())
    for count, repeated in batches:
        first = max(0, log.size - repeated)
        expected = max(log.size, first + count)
        head = log.append(first, entries_of(count, first)).checkpoint
        assert (head.size, head.root) == (expected, naive_root(entries_of(expected)))
        if reopen:
            log.close()
            log = reopened(directory, head)
    log.close()
    check(directory, [log.head.checkpoint])


def test_a_gap_and_an_entry_that_is_too_long_are_mistakes_of_the_caller(log: LogWriter) -> None:
    for first, entries in ((1, [b"x"]), (-1, [b"x"]), (0, [b"x", bytes(ENTRY_BYTES_MAX + 1)])):
        with pytest.raises(ValueError, match="entry"):
            log.append(first, entries)
    assert log.append(0, [b"", bytes(ENTRY_BYTES_MAX)]).checkpoint.size == 2


def test_another_entry_in_the_place_of_one_is_refused(log: LogWriter) -> None:
    head = log.append(0, entries_of(300))
    for first, entries in ((299, [b"another"]), (0, [b"another"]), (10, [*entries_of(289, 10), b"another", b"new"])):
        with pytest.raises(StoreError, match="entry_differs"):
            log.append(first, entries)
    assert log.head == head
    assert log.append(0, entries_of(301)).checkpoint.root == naive_root(entries_of(301))


def test_partial_tiles_stay_until_they_are_full(log: LogWriter, directory: Path) -> None:
    for size in (3, 5, 256, 257):
        log.append(log.size, entries_of(size - log.size, log.size))
    files = {str(path.relative_to(directory)) for path in (directory / "tile").rglob("*") if path.is_file()}

    assert files == {
        "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/1",
    }  # fmt: skip
    tile = Tile(ENTRIES, 0, 5)
    assert decode_entries(tile, TileDirectory(directory).read_tile(tile)) == entries_of(5)
    assert len(TileDirectory(directory).read_tile(Tile(0, 0, 3))) == 96


def test_only_one_writes(log: LogWriter, directory: Path) -> None:
    with pytest.raises(StoreError, match="locked"):
        reopened(directory)
    log.close()
    reopened(directory).close()
    with pytest.raises(StoreError, match="closed"):
        log.append(0, [b"x"])


# ---- going on with what is not what it was


def test_a_log_is_begun_only_once(log: LogWriter, directory: Path) -> None:
    log.append(0, entries_of(3))
    log.close()
    with pytest.raises(StoreError, match="log_exists"):
        LogWriter.create(directory, signer())
    (directory / "checkpoint").unlink()
    with pytest.raises(StoreError, match="log_exists"):
        LogWriter.create(directory, signer())
    with pytest.raises(StoreError, match="no_checkpoint"):
        reopened(directory)


def test_a_log_restored_from_an_old_copy_is_found(log: LogWriter, directory: Path, tmp_path: Path) -> None:
    """A smaller head would be signed next, and then another one of the same size."""
    log.append(0, entries_of(300))
    shutil.copytree(directory, tmp_path / "backup")
    head = log.append(300, entries_of(10, 300)).checkpoint
    log.close()

    with pytest.raises(StoreError, match="rolled_back"):
        reopened(tmp_path / "backup", head)
    reopened(tmp_path / "backup").close()  # the control: nobody remembers


def test_a_log_with_another_past_is_found(log: LogWriter, directory: Path) -> None:
    log.append(0, entries_of(300))
    log.close()
    for signed in (Checkpoint(ORIGIN, 200, bytes(32)), Checkpoint("example.org/x", 200, naive_root(entries_of(200)))):
        with pytest.raises(StoreError, match="forked"):
            reopened(directory, signed)
    reopened(directory, Checkpoint(ORIGIN, 200, naive_root(entries_of(200)))).close()


def test_another_key_does_not_go_on_with_a_log(log: LogWriter, directory: Path) -> None:
    log.close()

    with pytest.raises(StoreError, match="damaged"):
        LogWriter.open(directory, signer("another.example"), signed=None)


@pytest.mark.parametrize("damage", ["lost", "cut", "altered"])
def test_tiles_of_hashes_are_made_anew_from_the_entries(log: LogWriter, directory: Path, damage: str) -> None:
    head = log.append(0, entries_of(70_000)).checkpoint
    log.close()
    for tile in (tile_at(0, 273, head.size), tile_at(1, 0, head.size), tile_at(2, 0, head.size)):
        path = directory / tile.path
        data = path.read_bytes()
        path.unlink()
        if damage != "lost":
            path.write_bytes(data[:-1] if damage == "cut" else bytes(32) + data[32:])

    with reopened(directory, head) as again:
        again.append(head.size, entries_of(1, head.size))
    assert check(directory, [head]).size == head.size + 1


@pytest.mark.parametrize("damage", ["lost", "cut", "altered", "swapped"])
def test_entries_that_are_not_those_that_were_signed_are_found(log: LogWriter, directory: Path, damage: str) -> None:
    """Then nothing is written: what is left is evidence."""
    head = log.append(0, entries_of(600)).checkpoint
    log.close()
    (directory / tile_at(0, 2, head.size).path).unlink()
    victim = directory / Tile(ENTRIES, 1).path
    data = victim.read_bytes()
    match damage:
        case "lost":
            victim.unlink()
        case "cut":
            victim.write_bytes(data[:-1])
        case "altered":
            victim.write_bytes(data.replace(b"entry 300", b"entry 3oo"))
        case "swapped":
            victim.write_bytes((directory / Tile(ENTRIES, 0).path).read_bytes())
    before = {path: path.read_bytes() for path in (directory / "tile").rglob("*") if path.is_file()}

    with pytest.raises(StoreError, match=r"tile_missing|damaged"):
        reopened(directory)
    assert before == {path: path.read_bytes() for path in (directory / "tile").rglob("*") if path.is_file()}


def test_last_entries_that_were_altered_are_found_even_when_all_hashes_are_right(
    log: LogWriter, directory: Path
) -> None:
    log.append(0, entries_of(300))
    log.close()
    bundle = directory / tile_at(ENTRIES, 1, 300).path
    bundle.write_bytes(bundle.read_bytes().replace(b"entry 299", b"entry 29!"))

    with pytest.raises(StoreError, match="damaged"):
        reopened(directory)


def test_an_altered_checkpoint_is_found(log: LogWriter, directory: Path) -> None:
    log.append(0, entries_of(3))
    log.close()
    note = (directory / "checkpoint").read_bytes()
    for altered in (note.replace(b"\n3\n", b"\n2\n"), note[:-2], b"", note + note, bytes(1 << 20)):
        (directory / "checkpoint").write_bytes(altered)
        with pytest.raises(StoreError, match="damaged"):
            reopened(directory)


# ---- a disk that fails


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "disk_full"), (errno.EIO, "io_error")])
def test_a_batch_that_a_full_disk_refused_can_be_given_again(
    log: LogWriter, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    head = log.append(0, entries_of(250))

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match=reason):
            log.append(250, entries_of(10, 250))
    assert (log.head, log.size) == (head, 250)

    assert log.append(250, entries_of(10, 250)).checkpoint.root == naive_root(entries_of(260))


def test_after_a_checkpoint_that_may_or_may_not_be_durable_nothing_is_appended(
    log: LogWriter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fail_for_the_log(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == directory and (directory / "tile/0/000.p/9").exists():
            raise OSError(errno.EIO, "the disk")
        sync(descriptor)

    log.append(0, entries_of(5))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_the_log)
        with pytest.raises(StoreError, match="io_error"):
            log.append(5, entries_of(4, 5))
    with pytest.raises(StoreError, match="closed"):
        log.append(5, [b"another history"])

    with reopened(directory) as again:
        assert again.size in {5, 9}


def test_a_tile_that_is_longer_than_it_can_be_is_not_read_whole(log: LogWriter, directory: Path) -> None:
    log.append(0, entries_of(3))
    with (directory / "tile/0/000.p/3").open("r+b") as file:
        file.truncate(1 << 40)

    with pytest.raises(LogError, match="tile_length"):
        TileDirectory(directory).read_tile(Tile(0, 0, 3))


def test_a_tile_that_never_was_is_missing(directory: Path, log: LogWriter) -> None:
    with pytest.raises(StoreError, match="tile_missing"):
        TileDirectory(directory).read_tile(Tile(0, 0, 3))
