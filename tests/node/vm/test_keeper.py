"""VMs end when their time is over, whatever has become of the daemon."""

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

from tccp.core.keeper import MESSAGE_BYTES
from tccp.errors import HostError
from tccp.node.vm.host import HostSettings, open_host
from tccp.node.vm.keeper import boottime, open_keeper
from tccp.node.vm.opening import open_vm
from tests.support.machines import GuestImages, TestHost, a_host, booted, describe, secrets

DAEMON = """
    import os, signal, sys, trio
    from pathlib import Path
    from tests.support.machines import GuestImages, a_host, describe, secrets
    from tccp.node.vm.keeper import boottime
    from tccp.node.vm.opening import open_vm
    folder = Path(sys.argv[1])

    async def main():
        images = GuestImages(folder / "images")
        async with a_host(folder) as host:
            async with open_vm(describe(), images.with_disk(folder / "live"), secrets(), host=host.vms) as vm:
                await vm.run()
                await host.vms.keeper.allow_until(boottime() + float(sys.argv[2]))
                print(vm.qemu.pid, vm.vtpm.child.pid, vm.disks[0].child.pid, flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
                await trio.sleep_forever()

    trio.run(main)
"""


def start_daemon(folder: Path, time_s: float) -> "tuple[subprocess.Popen[str], list[int]]":
    """A daemon that stops itself once its VM runs and has *time_s* left; with pidfds of the VM's processes."""
    folder.mkdir(mode=0o711)
    command = [sys.executable, "-c", textwrap.dedent(DAEMON), str(folder), str(time_s)]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    assert daemon.stdout is not None
    return daemon, [os.pidfd_open(int(number)) for number in daemon.stdout.readline().split()]


def test_the_vms_of_a_daemon_that_hangs_end_with_their_time(vm_folder: Path) -> None:
    long, control = start_daemon(vm_folder / "hour", 3600)
    short, children = start_daemon(vm_folder / "second", 1)
    try:
        for child in children:
            assert select.select([child], [], [], 30)[0] == [child]
        # Stopped it is still, and one that was given an hour is stopped, too, with a VM that runs on: the control.
        for daemon in (short, long):
            assert Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        assert select.select(control, [], [], 0)[0] == []
    finally:
        for daemon in (short, long):
            daemon.kill()
            daemon.wait()
            assert daemon.stdout is not None
            daemon.stdout.close()
        for child in (*children, *control):
            assert select.select([child], [], [], 30)[0] == [child]
            os.close(child)


async def test_a_vm_ends_with_its_time_and_says_so(host: TestHost, images: GuestImages) -> None:
    async with booted(host, images.diskless) as guest:
        await host.vms.keeper.allow_until(boottime() + 3600)
        await host.vms.keeper.allow_until(boottime() + 0.1)
        assert (await guest.vm.ended()).reason == "time_over"
    # There is a next time.
    await host.vms.keeper.allow_until(boottime() + 3600)
    async with booted(host, images.diskless) as guest:
        assert await guest.run("echo again") == ["again"]


async def test_nothing_runs_for_which_no_time_was_given(host: TestHost, images: GuestImages, vm_folder: Path) -> None:
    settings = HostSettings(vm_folder / "timeless", vm_folder / "timeless-state", host.vms.settings.users)
    async with open_host(settings, host.vms.issuer) as timeless:
        with pytest.raises(HostError):
            async with open_vm(describe(), images.diskless, secrets(), host=timeless):
                pass


async def test_no_vm_goes_on_without_the_keeper(vm_folder: Path, images: GuestImages) -> None:
    (vm_folder / "keeperless").mkdir(mode=0o711)
    async with a_host(vm_folder / "keeperless") as host, booted(host, images.diskless) as guest:
        await host.vms.keeper.child.kill()
        assert (await guest.vm.ended()).reason == "keeper_failed"
        with pytest.raises(HostError) as refused:
            async with open_vm(describe(), images.diskless, secrets(), host=host.vms):
                pass
        assert refused.value.reason == "no_keeper"
        with pytest.raises(HostError) as asked:
            await host.vms.keeper.allow_until(boottime() + 3600)
        assert asked.value.reason == "no_keeper"


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "1000"])


async def test_a_keeper_forgets_who_has_ended(host: TestHost) -> None:
    async with trio.open_nursery() as nursery, open_keeper(host.vms.python, nursery) as keeper:
        await keeper.allow_until(boottime() + 3600)
        at_first = len(list(Path(f"/proc/{keeper.child.pid}/fd").iterdir()))
        guarded = [sleeper() for _ in range(8)]
        for process in guarded:
            descriptor = os.pidfd_open(process.pid)
            keeper.guard(descriptor)
            os.close(descriptor)
        await keeper.allow_until(boottime() + 3600)
        assert len(list(Path(f"/proc/{keeper.child.pid}/fd").iterdir())) == at_first + 8
        for process in guarded[:-1]:
            process.kill()
            process.wait()
        await keeper.allow_until(boottime() + 3600)
        await keeper.allow_until(boottime() + 3600)
        assert len(list(Path(f"/proc/{keeper.child.pid}/fd").iterdir())) == at_first + 1
        await keeper.allow_until(0)
        assert guarded[-1].wait() == -signal.SIGKILL


@pytest.mark.parametrize("said", [b"x", bytes(MESSAGE_BYTES + 1), b""])
async def test_a_keeper_that_is_told_nonsense_ends_everything(host: TestHost, said: bytes) -> None:
    async with trio.open_nursery() as nursery, open_keeper(host.vms.python, nursery) as keeper:
        await keeper.allow_until(boottime() + 3600)
        process = sleeper()
        descriptor = os.pidfd_open(process.pid)
        keeper.guard(descriptor)
        os.close(descriptor)
        keeper._control.send(said)
        assert await keeper.child.wait() == 0
        assert process.wait() == -signal.SIGKILL


async def test_a_keeper_that_is_handed_more_than_it_guards_ends_everything(host: TestHost) -> None:
    async with trio.open_nursery() as nursery, open_keeper(host.vms.python, nursery) as keeper:
        await keeper.allow_until(boottime() + 3600)
        process = sleeper()
        descriptor = os.pidfd_open(process.pid)
        keeper.guard(descriptor)
        socket.send_fds(keeper._control, [bytes(MESSAGE_BYTES)], [descriptor, descriptor])
        os.close(descriptor)
        with trio.fail_after(60):
            assert await keeper.child.wait() == 0
        assert process.wait() == -signal.SIGKILL


async def test_a_keeper_does_not_wait_for_whoever_does_not_listen(host: TestHost) -> None:
    async with trio.open_nursery() as nursery, open_keeper(host.vms.python, nursery) as keeper:
        process = sleeper()
        await keeper.allow_until(boottime() + 3600)
        descriptor = os.pidfd_open(process.pid)
        keeper.guard(descriptor)
        os.close(descriptor)
        said = int((boottime() + 3600) * 1e9).to_bytes(MESSAGE_BYTES, sys.byteorder)
        with trio.fail_after(60):
            while True:
                try:
                    keeper._control.send(said)
                except BlockingIOError:
                    await trio.lowlevel.checkpoint()
                except OSError:
                    break
            assert await keeper.child.wait() == 0
        assert process.wait() == -signal.SIGKILL


async def test_a_keeper_has_no_more_privileges_than_it_needs(host: TestHost) -> None:
    lines = Path(f"/proc/{host.vms.keeper.child.pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kill = f"{1 << 5:016x}"
    assert status["CapEff"] == status["CapPrm"] == (kill if os.geteuid() == 0 else "0" * 16)
    assert status["NoNewPrivs"] == "1"
