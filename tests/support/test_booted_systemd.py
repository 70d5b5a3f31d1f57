"""The machine of the tests is itself tested: what it leaves behind, and what it says where it cannot be had."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.booted_systemd import REPOSITORY, boot

BOOT_AND_DIE = """
import os, pathlib, signal, sys
from tests.support.booted_systemd import boot
with boot(pathlib.Path(sys.argv[1])) as machine:
    print(machine.first_process, flush=True)
    if sys.argv[2:]: os.kill(os.getpid(), signal.SIGKILL)
"""


def gone(pid: int) -> bool:
    """True as soon as the process has ended, which takes the kernel a moment; False if it goes on living."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30)[0])
    finally:
        os.close(handle)


@pytest.mark.parametrize("end", [[], ["killed"]])
def test_the_machine_ends_with_the_test_that_booted_it(tmp_path: Path, end: list[str]) -> None:
    """Also when that was killed and could not clean up."""
    child = subprocess.run(
        [sys.executable, "-c", BOOT_AND_DIE, tmp_path, *end],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert child.returncode == (-9 if end else 0), child.stderr
    assert gone(int(child.stdout))


def test_nothing_that_happens_inside_is_seen_outside(tmp_path: Path) -> None:
    name = f"tccp-test-{os.getpid()}"
    with boot(tmp_path) as machine:
        machine.write(f"/usr/local/{name}", "")
        machine.write(f"/opt/tccp/{name}", "")
        machine.run("useradd", name)

    assert not Path("/usr/local", name).exists()
    assert not (REPOSITORY / name).exists()
    assert name not in Path("/etc/passwd").read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root has the right that is taken away here")
def test_a_place_without_the_rights_is_told_what_is_missing(tmp_path: Path) -> None:
    without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable]
    child = subprocess.run(
        [*without, "-c", BOOT_AND_DIE, tmp_path], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert "systemd does not boot in namespaces here. That needs root" in child.stderr
    assert "Operation not permitted" in child.stderr
