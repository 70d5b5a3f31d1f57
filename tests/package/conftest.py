"""The packages of this tree, made once and again only when something in it has changed."""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIST = ROOT / "build" / "dist"


def make(target: str) -> None:
    """Run make; several runs of the tests wait for each other."""
    DIST.mkdir(parents=True, exist_ok=True)
    with (ROOT / "build" / ".package-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The outer make, when there is one, says nothing to this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            ["make", "--silent", "-C", ROOT, target], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr


def the_only(pattern: str) -> Path:
    (path,) = DIST.glob(pattern)
    return path


@pytest.fixture(scope="session")
def wheel() -> Path:
    make("wheel")
    return the_only("tccp*.whl")


@pytest.fixture(scope="session")
def sdist(wheel: Path) -> Path:
    return the_only("tccp*.tar.gz")


@pytest.fixture(scope="session")
def wheelhouse() -> Path:
    make("build/wheelhouse/.complete")
    return ROOT / "build" / "wheelhouse"


@pytest.fixture(scope="session")
def deb(wheel: Path) -> Path:
    make("deb")
    return the_only("tccp*.deb")
