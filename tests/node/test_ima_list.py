"""Reading the kernel's list on from where the coordinator has got to."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tccp.errors import HostError
from tccp.node.ima_list import ImaList
from tccp.protocol.messages import HOST_LOG_PART_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_bytes(os.urandom(HOST_LOG_PART_BYTES + 100))
    return path


@pytest.fixture
def ima_list(path: Path) -> Iterator[ImaList]:
    opened = ImaList(path)
    yield opened
    opened.close()


def test_a_list_is_read_in_parts_as_long_as_a_message_may_be(ima_list: ImaList, path: Path) -> None:
    first, second = ima_list.read(0), ima_list.read(HOST_LOG_PART_BYTES)

    assert len(first) == HOST_LOG_PART_BYTES
    assert first + second == path.read_bytes()
    assert ima_list.read(HOST_LOG_PART_BYTES + 100) == b""


def test_what_was_measured_since_is_there(ima_list: ImaList, path: Path) -> None:
    end = len(path.read_bytes())
    assert ima_list.read(end) == b""
    with path.open("ab") as file:
        file.write(b"another entry")

    assert ima_list.read(end) == b"another entry"


def test_a_host_without_ima_has_an_empty_list(tmp_path: Path) -> None:
    assert ImaList(None).read(0) == ImaList(tmp_path / "nothing").read(0) == b""


def test_a_list_that_cannot_be_read_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="ima_list"):
        ImaList(tmp_path).read(0)
