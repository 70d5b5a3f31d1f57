"""A disk whose process was killed: it is taken at its newest state, and in none from before its last mark."""

import signal
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import DiskError, HostError
from tccp.node.vm.end import VmEnd
from tccp.node.vm.opening import open_vm
from tccp.node.vm.vm import Vm
from tests.support.machines import Guest, GuestImages, TestHost, booted, describe, secrets


async def crash(vm: Vm) -> VmEnd:
    """Its disk's process is killed."""
    vm.disks[0].child.send(signal.SIGKILL)
    return await vm.ended()


async def write(guest: Guest, text: str) -> None:
    await guest.run(f"echo '{text}' | dd of=/dev/vda conv=notrunc,fsync")


async def test_an_older_copy_of_a_disk_is_refused_after_a_crash_and_the_newest_goes_on(
    host: TestHost, images: GuestImages, live: Path
) -> None:
    async with booted(host, images.with_disk(live)) as guest:
        await write(guest, "first")
        older = live.read_bytes()
        await write(guest, "second")
        vtpm, registered = await guest.vm.marks()
        await guest.vm.keep([vtpm, registered])
        await write(guest, "third")
        _, unheard = await guest.vm.marks()  # given, and registered nowhere: the node dies
        end = await crash(guest.vm)
    assert (end.reason, end.disk_roots, end.disk_marks) == ("disk_failed", (None,), (unheard,))
    assert registered != unheard
    newest = live.read_bytes()

    live.write_bytes(older)
    with pytest.raises(DiskError, match="wrong_disk_mark") as refused:
        async with open_vm(describe(), images.with_disk(live, None, registered), secrets(), host=host.vms):
            pass
    assert "--any-disk-state" in refused.value.hint
    # The control: it is whole, and nothing else would have kept it out.
    async with open_vm(describe(), images.with_disk(live), secrets(), host=host.vms):
        pass

    live.write_bytes(newest)
    async with booted(host, images.with_disk(live, None, registered)) as guest:
        assert await guest.run("head -n 1 /dev/vda") == ["third"]


async def test_a_good_end_says_a_mark_that_holds_when_the_next_start_crashes(
    host: TestHost, images: GuestImages, live: Path
) -> None:
    async with booted(host, images.with_disk(live)) as guest:
        before = live.read_bytes()
        await write(guest, "written")
        end = await guest.vm.kill()
    ((root,), (mark,)) = end.disk_roots, end.disk_marks
    async with open_vm(describe(), images.with_disk(live, root, mark), secrets(), host=host.vms) as vm:
        await crash(vm)

    for demanded in (None, root):  # nothing was written meanwhile
        async with open_vm(describe(), images.with_disk(live, demanded, mark), secrets(), host=host.vms) as vm:
            await crash(vm)
    live.write_bytes(before)
    with pytest.raises(DiskError, match="wrong_disk_mark"):
        async with open_vm(describe(), images.with_disk(live, None, mark), secrets(), host=host.vms):
            pass


async def test_a_disk_is_not_made_anew_where_a_mark_is_demanded(
    host: TestHost, images: GuestImages, live: Path
) -> None:
    async with open_vm(describe(), images.with_disk(live), secrets(), host=host.vms) as vm:
        vtpm, mark = await vm.marks()
        with pytest.raises(DiskError, match="wrong_disk_mark"):
            await vm.keep([vtpm, bytes(40)])
        assert await vm.marks() == (vtpm, mark)  # nothing was written, and the process answers on

    live.unlink()
    with pytest.raises(HostError, match="disk_unreadable"):
        async with open_vm(describe(), images.with_disk(live, None, mark), secrets(), host=host.vms):
            pass
    live.touch()
    with pytest.raises(DiskError):
        async with open_vm(describe(), images.with_disk(live, None, mark), secrets(), host=host.vms):
            pass
    assert live.stat().st_size == 0


async def test_a_disk_that_hangs_does_not_keep_whoever_asked_it(
    host: TestHost, images: GuestImages, live: Path
) -> None:
    async with open_vm(describe(), images.with_disk(live), secrets(), host=host.vms) as vm:
        (disk,) = vm.disks
        disk.child.send(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vm.marks)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        disk.child.send(signal.SIGCONT)

        end = await vm.kill()

    assert None not in end.disk_roots
    assert end.disk_marks != (b"",)
