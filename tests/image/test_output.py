"""Files that appear complete or not at all, on file systems with and without unnamed files."""

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from tccp.errors import HostError
from tccp.image.output import copy_to_end, is_regular, new_file, spool


@pytest.fixture(params=["unnamed files", "no unnamed files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder; some file systems (NFS, FAT, old overlays) refuse O_TMPFILE."""
    if request.param == "no unnamed files":
        real_open = os.open

        def refusing_open(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real_open(path, flags, mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", refusing_open)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_published_and_not_before(folder: Path, request: pytest.FixtureRequest) -> None:
    with new_file(folder / "out") as file:
        os.write(file.descriptor, b"content")
        assert "out" not in names(folder)
        assert len(names(folder)) == ("no unnamed files" in request.node.name)
        file.publish()
    assert names(folder) == ["out"]
    assert (folder / "out").read_bytes() == b"content"
    assert (folder / "out").stat().st_mode & 0o777 == 0o600


def test_it_takes_the_place_of_what_was_there_in_one_step(folder: Path) -> None:
    (folder / "out").write_bytes(b"was there")
    with (folder / "out").open("rb") as reader, new_file(folder / "out") as file:
        os.write(file.descriptor, b"content")
        file.publish()
        assert reader.read() == b"was there", "who had it open keeps the old one"
    assert names(folder) == ["out"]
    assert (folder / "out").read_bytes() == b"content"


def test_nothing_is_left_of_a_file_that_is_not_published(folder: Path) -> None:
    (folder / "out").write_bytes(b"was there")
    with contextlib.suppress(KeyboardInterrupt), new_file(folder / "out") as file:
        os.write(file.descriptor, b"half")
        raise KeyboardInterrupt
    assert names(folder) == ["out"]
    assert (folder / "out").read_bytes() == b"was there"


def test_a_folder_that_is_not_there_is_the_hosts_fault(folder: Path) -> None:
    with pytest.raises(HostError) as refused, new_file(folder / "nowhere" / "out"):
        pass
    assert refused.value.reason == "file_unwritable"


def test_everything_from_where_it_stands_to_its_end_is_copied(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(b"before" + content)
    with (tmp_path / "source").open("rb", buffering=0) as source:
        source.seek(6)
        reader, writer = os.pipe()
        assert not is_regular(reader)
        with os.fdopen(reader, "rb") as pipe:
            copying = threading.Thread(target=lambda: (copy_to_end(source.fileno(), writer), os.close(writer)))
            copying.start()
            assert pipe.read() == content
            copying.join()
        assert is_regular(source.fileno())
    with spool() as spooled:
        assert is_regular(spooled)
