"""Small files are whole on the disk or not there at all; what no file is, is written as it is."""

import os
import threading
from pathlib import Path

import pytest

from tccp.cli.files import refuse_existing, write_file, write_new
from tccp.durable import create_file, replace_file
from tccp.errors import ConfigError, HostError


def test_a_file_is_made_once_and_replaced_as_often_as_one_likes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create_file(path, b"first", mode=0o600)
    with pytest.raises(FileExistsError):
        create_file(path, b"second", mode=0o600)
    assert path.read_bytes() == b"first"

    replace_file(path, b"third", mode=0o640)

    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"third", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_synced_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"as it was")

    def fails(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fails)
        for write, path in ((create_file, tmp_path / "new"), (replace_file, old)):
            with pytest.raises(HostError, match="No space left"):
                write(path, b"content", mode=0o600)

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {old: b"as it was"}


def test_what_a_command_leaves_takes_the_place_of_nothing_that_was_not_to_be_replaced(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"a receipt")

    for refuse in (lambda: write_new(there, b"another", 0o644), lambda: refuse_existing(there)):
        with pytest.raises(ConfigError, match="file_exists"):
            refuse()
    refuse_existing(None)
    refuse_existing(tmp_path / "new")
    assert there.read_bytes() == b"a receipt"
    with pytest.raises(HostError, match="file_unwritable"):
        write_new(tmp_path / "nowhere" / "file", b"x", 0o644)


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"old")

    write_file(tmp_path / "link", b"new", 0o644)

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("write", [write_new, write_file])
def test_a_pipe_gets_what_is_written_and_stays_a_pipe(write: object, tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()

    write(pipe, b"content", 0o644)  # type: ignore[operator]

    reader.join()
    assert (received, pipe.is_fifo()) == ([b"content"], True)
