"""When the host fails the VM: the daemon is killed, memory runs out, a vTPM's state is not what it was."""

import contextlib
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tccp.errors import ConfigError, HostError
from tccp.node.vm.host import HostSettings, UserRange, open_host
from tccp.node.vm.opening import open_vm
from tests.support.machines import GuestImages, TestHost, a_host, describe, secrets

DAEMON = """
    import sys, trio
    from pathlib import Path
    from tests.support.machines import GuestImages, a_host, describe, secrets
    from tccp.node.vm.opening import open_vm
    folder = Path(sys.argv[1])

    async def main():
        images = GuestImages(folder / "images")
        async with a_host(folder) as host:
            async with open_vm(describe(), images.with_disk(folder / "live"), secrets(), host=host.vms) as vm:
                await vm.run()
                print(vm.qemu.pid, vm.vtpm.child.pid, vm.disks[0].child.pid, flush=True)
                await trio.sleep_forever()

    trio.run(main)
"""


async def test_a_killed_daemon_takes_all_of_its_vms_along(vm_folder: Path) -> None:
    folder = vm_folder / "killed"
    folder.mkdir(mode=0o711)
    daemon = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, "-c", textwrap.dedent(DAEMON), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert daemon.stdout is not None
    children = [os.pidfd_open(int(number)) for number in daemon.stdout.readline().split()]
    assert len(children) == 3
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    for child in children:
        assert select.select([child], [], [], 30)[0] == [child]
        os.close(child)

    assert len(list((folder / "run").iterdir())) == 1
    (vm,) = (folder / "state").iterdir()
    unfinished = [vm / "suspended-1.sealed.partial", vm.with_name(f"{vm.name}.vm.partial")]
    for path in unfinished:
        path.touch()
    async with a_host(folder):
        assert list((folder / "run").iterdir()) == []
        assert [path for path in unfinished if path.exists()] == []


async def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()

    with pytest.raises(ConfigError, match=f"vm_folders: {tmp_path}/state: File exists"):
        async with a_host(tmp_path):
            pass


@contextlib.contextmanager
def memory_group(limit_mib: int) -> Iterator[Path]:
    """A control group with little memory, of whichever version the machine has: the file that takes process ids."""
    v1 = Path("/sys/fs/cgroup/memory")
    base, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (Path("/sys/fs/cgroup"), "memory.max")
    group = base / f"tccp-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_mib << 20))
    except OSError as error:
        pytest.skip(f"this kernel lets nobody limit memory here: {error}")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


async def test_a_vm_that_the_kernel_kills_for_memory_ends_with_that_reason(host: TestHost, images: GuestImages) -> None:
    with memory_group(40) as group:
        async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
            group.write_text(str(vm.qemu.pid))
            await vm.run()
            assert (await vm.ended()).reason == "out_of_memory"


async def test_a_vtpm_opens_with_the_key_of_its_vm_alone(host: TestHost, images: GuestImages) -> None:
    description, keys = describe(), secrets()
    async with open_vm(description, images.diskless, keys, host=host.vms) as vm:
        await vm.run()
        first = vm.vtpm.certificates
    state = host.vms.settings.state / description.name / "vtpm"
    # The certificates lie in it; encrypted, none of their text can be seen.
    assert list(state.glob("*permall"))
    assert not [file for file in state.iterdir() if b"tccp vTPM" in file.read_bytes()]

    with pytest.raises(HostError) as refused:
        async with open_vm(description, images.diskless, secrets(), host=host.vms):
            pass
    assert refused.value.reason == "vtpm_failed"
    async with open_vm(description, images.diskless, keys, host=host.vms) as vm:
        again = vm.vtpm.certificates
    # Certified anew, and still the same keys.
    assert again.ek_certificate != first.ek_certificate
    assert key_of(again.ek_certificate) == key_of(first.ek_certificate)
    assert key_of(again.ak_certificate) == key_of(first.ak_certificate)


def key_of(certificate: bytes) -> str:
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-pubkey"]
    return subprocess.run(command, input=certificate, capture_output=True, check=True).stdout.decode()


async def test_root_runs_vms_as_users_of_their_own_only(host: TestHost, vm_folder: Path) -> None:
    settings = HostSettings(vm_folder / "run2", vm_folder / "state2", users=None)
    with pytest.raises(ConfigError) as refused:
        async with open_host(settings, host.vms.issuer):
            pass
    assert refused.value.reason == "no_vm_users"


@pytest.mark.parametrize(("first", "count"), [(0, 10), (999, 1), (500_000, 0), (0xFFFF_0000, 1)])
def test_users_of_vms_are_nobody_else(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="users"):
        UserRange(first, count)


def test_a_host_has_as_many_vms_as_users() -> None:
    users = UserRange(500_000, 1)
    with users.lend() as user:
        assert user == 500_000
        with pytest.raises(HostError) as refused, users.lend():
            pass
    assert refused.value.reason == "too_many_vms"
    with users.lend() as user:
        assert user == 500_000
