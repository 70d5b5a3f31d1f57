"""The state of a vTPM is taken as it was left, or as it went on since, and in no older one."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tccp.errors import DiskError, HostError
from tccp.node.vm import vtpm_state
from tccp.node.vm.end import VmEnd
from tccp.node.vm.opening import open_vm
from tccp.node.vm.vtpm_state import DOMAIN, NOTHING, VtpmDemand, VtpmState
from tests.support.machines import FIRST_USER, GuestImages, TestHost, describe, secrets

NEVER_STARTED = hashlib.sha256(DOMAIN).digest()


class Machine:
    """A VM without disks that can be started again and again."""

    def __init__(self, host: TestHost, images: GuestImages) -> None:
        self.host, self.images = host, images
        self.description, self.keys = describe(), secrets()
        self.state = host.vms.settings.state / self.description.name / "vtpm"

    async def run(self, demand: VtpmDemand = NOTHING, *, crash: bool = False, begin: bool = True) -> VmEnd:
        """From power on to power off, or to the death of its vTPM."""
        opened = open_vm(self.description, self.images.diskless, self.keys, host=self.host.vms, vtpm=demand)
        async with opened as vm:
            if begin:
                await vm.run()
            if crash:
                vm.vtpm.child.send(signal.SIGKILL)
                return await vm.ended()
            return await vm.kill()

    async def is_refused(self, demand: VtpmDemand) -> str:
        """Why."""
        with pytest.raises(DiskError) as refused:
            await self.run(demand)
        assert "--any-disk-state" in refused.value.hint
        return refused.value.reason

    def copy(self, to: Path) -> Path:
        """Of the state, as root on the host has it."""
        return Path(shutil.copytree(self.state, to))

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.state)
        shutil.copytree(copy, self.state)


@pytest.fixture
def machine(host: TestHost, images: GuestImages) -> Machine:
    """Never started."""
    return Machine(host, images)


async def test_an_older_state_is_refused_after_a_good_end(machine: Machine, tmp_path: Path) -> None:
    first = await machine.run()
    older = machine.copy(tmp_path / "older")
    second = await machine.run(VtpmDemand(first.vtpm_sha256))
    newest = machine.copy(tmp_path / "newest")
    assert first.vtpm_sha256 != second.vtpm_sha256

    machine.put_back(older)
    assert await machine.is_refused(VtpmDemand(second.vtpm_sha256)) == "wrong_vtpm_state"
    await machine.run()  # the control: it is genuine, and nothing else keeps it out

    machine.put_back(newest)
    await machine.run(VtpmDemand(second.vtpm_sha256))


async def test_a_state_from_before_a_start_that_is_registered_is_refused_after_a_crash(
    machine: Machine, tmp_path: Path
) -> None:
    await machine.run()
    older = machine.copy(tmp_path / "older")
    crashed = await machine.run(crash=True)
    newest = machine.copy(tmp_path / "newest")
    assert (crashed.reason, len(crashed.vtpm_mark)) == ("vtpm_failed", 40)

    machine.put_back(older)
    assert await machine.is_refused(VtpmDemand(mark=crashed.vtpm_mark)) == "wrong_vtpm_mark"
    await machine.run()  # the control

    machine.put_back(newest)
    await machine.run(VtpmDemand(mark=crashed.vtpm_mark))


async def test_a_vtpm_that_is_made_anew_is_another(machine: Machine) -> None:
    end = await machine.run()
    shutil.rmtree(machine.state)

    assert await machine.is_refused(VtpmDemand(end.vtpm_sha256)) == "wrong_vtpm_state"
    assert await machine.is_refused(VtpmDemand(mark=bytes(8) + end.vtpm_mark[8:])) == "wrong_vtpm_mark"


async def test_a_start_that_comes_to_nothing_leaves_the_state_as_it_was(machine: Machine) -> None:
    end = await machine.run(begin=False)
    assert end.vtpm_sha256 == NEVER_STARTED
    end = await machine.run(VtpmDemand(NEVER_STARTED))
    demand = VtpmDemand(end.vtpm_sha256)

    assert (await machine.run(demand, begin=False)).vtpm_sha256 == end.vtpm_sha256
    assert await machine.is_refused(VtpmDemand(bytes(32))) == "wrong_vtpm_state"
    (altered,) = machine.state.glob("*permall")
    content = altered.read_bytes()
    altered.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert await machine.is_refused(demand) == "wrong_vtpm_state"
    with pytest.raises(HostError, match="vtpm_failed"):  # swtpm finds that out as well
        await machine.run()
    altered.write_bytes(content)

    await machine.run(demand)


async def test_a_daemon_that_died_between_two_renames_has_lost_nothing(machine: Machine) -> None:
    end = await machine.run()
    machine.state.rename(machine.state.with_name("vtpm.old"))
    machine.state.with_name("vtpm.next").mkdir()

    await machine.run(VtpmDemand(end.vtpm_sha256))

    assert [path.name for path in machine.state.parent.iterdir()] == ["vtpm"]


def test_a_vtpm_cannot_have_us_read_for_it_what_it_may_not(tmp_path: Path) -> None:
    """Whoever breaks out of swtpm owns the folder, and not more."""
    (tmp_path / "ours").write_bytes(b"secret")
    state = VtpmState(tmp_path / "vm")
    trap = state.parent / "vtpm" / "tpm2-00.permall"
    trap.parent.mkdir(parents=True)
    trap.symlink_to(tmp_path / "ours")
    assert shutil.copyfile(trap, tmp_path / "copy").read_bytes() == b"secret"  # what a copy without a look would be

    with pytest.raises(HostError, match="is not a file"):
        state.prepare(demanded=None, anew=False)
    with pytest.raises(OSError, match="is not a file"):
        state.digest()
    trap.unlink()
    os.mkfifo(trap)  # nobody writes to it: who reads waits for ever
    with pytest.raises(HostError, match="is not a file"):
        state.prepare(demanded=None, anew=False)

    assert not list(state.place.iterdir())


# ---- a loss of power


class Durable:
    """What stays when the power is cut: of each file and folder what it was when it was synced last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._synced: dict[int, bytes | dict[str, int]] = {}
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}")
            inode = os.fstat(descriptor).st_ino
            if path.is_dir():
                self._synced[inode] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
            else:
                self._synced[inode] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", noted)

    def read(self, folder: Path, *names: str) -> bytes | None:
        """What is then in the file behind *names*, from a folder whose own name is durable."""
        inode = folder.stat().st_ino
        for name in names:
            listing = self._synced.get(inode, {})
            assert isinstance(listing, dict)
            if name not in listing:
                return None
            inode = listing[name]
        content = self._synced.get(inode)
        return content if isinstance(content, bytes) else None


FILE = "tpm2-00.permall"


def begun(parent: Path, content: bytes) -> VtpmState:
    """The state of a vTPM that wrote *content*, whose VM has begun to run."""
    state = VtpmState(parent)
    state.prepare(demanded=None, anew=False)
    (state.place / "TMP2-00.permall").write_bytes(content)
    (state.place / "TMP2-00.permall").rename(state.place / FILE)
    state.begin()
    return state


def test_the_state_that_a_vm_begins_with_takes_the_place_of_the_former_once_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = Durable(monkeypatch)
    begun(tmp_path / "vm", b"first")
    assert durable.read(tmp_path, "vm", "vtpm", FILE) == b"first"

    state = begun(tmp_path / "vm", b"second")
    assert durable.read(tmp_path, "vm", "vtpm", FILE) == b"second"

    # The control: what swtpm writes is not durable by itself, nor by its new name.
    with monkeypatch.context() as without:
        without.setattr(vtpm_state, "_sync", lambda _folder: None)
        begun(tmp_path / "vm", b"third")
        assert durable.read(tmp_path, "vm", "vtpm", FILE) != b"third"
    assert (state.parent / "vtpm" / FILE).read_bytes() == b"third"


@pytest.mark.parametrize("when", [VtpmState.sync, VtpmState.settle])
def test_what_a_vtpm_writes_later_is_durable_when_it_is_asked_for_and_when_the_vm_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: Callable[[VtpmState], object]
) -> None:
    durable = Durable(monkeypatch)
    state = begun(tmp_path / "vm", b"first")
    (state.place / "TMP2-00.permall").write_bytes(b"later")
    (state.place / "TMP2-00.permall").rename(state.place / FILE)
    assert durable.read(tmp_path, "vm", "vtpm", FILE) == b"first"

    when(state)

    assert durable.read(tmp_path, "vm", "vtpm", FILE) == b"later"


async def test_what_a_running_vtpm_has_written_is_durable_before_its_mark_is_said(
    host: TestHost, images: GuestImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = Durable(monkeypatch)
    async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
        await vm.run()
        await vm.marks()
        vm.vtpm.child.send(signal.SIGSTOP)  # the guest's firmware goes on with it
        await vm.marks()
        state = vm.vtpm.state
        assert durable.read(state.parent.parent, state.parent.name, "vtpm", FILE) == (state.place / FILE).read_bytes()


SYNC = """
import sys
from pathlib import Path
from tccp.node.vm.vtpm_state import VtpmState
VtpmState(Path(sys.argv[1]), has_begun=True).sync()
"""


def test_a_daemon_without_any_right_over_others_files_syncs_those_of_a_vtpm(tmp_path: Path) -> None:
    state = begun(tmp_path / "vm", b"state")
    (state.place / FILE).chmod(0o644)  # as swtpm makes it
    vtpm_state.give(state.place, FIRST_USER)
    without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
    sync = [*without, sys.executable, "-c", SYNC, str(state.parent)]

    subprocess.run(sync, check=True)

    # The control: nobody else may look into the folder, and without its group neither may we.
    state.place.chmod(0o700)
    refused = subprocess.run(sync, check=False, capture_output=True, text=True)
    assert "Permission denied" in refused.stderr


def test_whatever_a_vtpm_makes_of_its_files_they_are_taken_back(tmp_path: Path) -> None:
    """Landlock does not keep it from closing its folder, or a file, to everybody."""
    state = begun(tmp_path / "vm", b"state")
    digest = state.digest()
    vtpm_state.give(state.place, FIRST_USER)
    (state.place / FILE).chmod(0)
    state.place.chmod(0)
    settle = "import sys; from pathlib import Path; from tccp.node.vm.vtpm_state import VtpmState, remove; "
    settle += "state = VtpmState(Path(sys.argv[1]), True); print(state.settle().hex()); remove(state.place)"
    without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]

    said = subprocess.run(
        [*without, sys.executable, "-c", settle, str(state.parent)], check=True, capture_output=True, text=True
    )

    assert said.stdout.split() == [digest.hex()]
    assert not state.place.exists()
