"""A host for VMs, and images that are sealed once for all tests."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.machines import GuestImages, TestHost, a_host


@pytest.fixture(scope="session")
def vm_folder() -> Iterator[Path]:
    """Short enough for sockets, and users of VMs may pass through it."""
    with tempfile.TemporaryDirectory(prefix="tccp-vm-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def images(vm_folder: Path) -> GuestImages:
    return GuestImages(vm_folder / "images")


@pytest.fixture
async def host(vm_folder: Path) -> AsyncIterator[TestHost]:
    """A fresh host; the folder of runs is empty after each test."""
    async with a_host(vm_folder) as ready:
        yield ready
    assert list((vm_folder / "run").iterdir()) == []


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """Where a live disk can be."""
    return tmp_path / "live.disk"
