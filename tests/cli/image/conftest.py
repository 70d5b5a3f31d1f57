"""A folder with keys and a disk image, and ``tccp`` in it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Ended, tccp_in_process

Run = Callable[..., Ended]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run ``tccp`` with these arguments, in this process and in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: tccp_in_process(capfdbinary, *arguments)


@pytest.fixture
def work(run: Run, tmp_path: Path) -> Path:
    """A folder with ``me.key``, ``other.key``, ``tenant.key``, their ``.pub``, and ``disk.raw``: data and holes."""
    for name in ("me", "other"):
        assert run("key", "generate", f"{name}.key").code == 0
    assert run("key", "generate", "--type", "tenant", "tenant.key").code == 0
    with (tmp_path / "disk.raw").open("wb") as disk:
        disk.write(os.urandom(3_000_000))
        disk.seek(20 << 20)
        disk.write(b"end of the disk")
    return tmp_path


@pytest.fixture
def sealed(run: Run, work: Path) -> Path:
    """The disk, sealed to ``me`` and signed."""
    path = work / "disk.sealed"
    assert run("image", "seal", "disk.raw", path, "--to", "me.pub", "--sign", "tenant.key").code == 0
    return path
