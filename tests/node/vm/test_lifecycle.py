"""From sealed images to the end of a VM, with real guests."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tccp.errors import DiskError, HostError, SealedImageError
from tccp.node.vm.description import VmDisk, VmImages
from tccp.node.vm.opening import open_vm
from tests.support.guest import CONSOLE
from tests.support.machines import Guest, GuestImages, TestHost, booted, describe, seal_file, secrets
from tests.support.processes import command_lines

HOSTILE = 'a,b ,, file=/etc/passwd id=x,if=none --help -S %s $(id) `id` ;id "q" \'q\' {"x":1} opt/org.tccp/x'


def processes_of(vm_id: bytes) -> list[str]:
    """The command lines that name the VM."""
    return [line for _, words in command_lines() if vm_id.hex() in (line := " ".join(words))]


async def test_a_guest_boots_with_its_command_line_its_secrets_and_its_disk(
    host: TestHost, images: GuestImages, live: Path
) -> None:
    description = describe(cmdline=f"{CONSOLE} {HOSTILE}")
    keys = secrets(**{"ssh-host-key": b"a\0key\nof,the guest"})
    async with booted(host, images.with_disk(live), description=description, keys=keys) as guest:
        assert await guest.run("cat /proc/cmdline") == [f"{CONSOLE} {HOSTILE}"]
        secret = await guest.run(
            "hexdump -ve '1/1 \"%02x\"' /sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/ssh-host-key/raw"
        )
        assert bytes.fromhex(secret[0]) == b"a\0key\nof,the guest"
        assert await guest.run("head -n 1 /dev/vda") == ["hello, disk!"]
        assert await guest.run("ls /sys/class/net; ls /sys/class/tpm") == ["lo", "tpm0"]
        # Only the bank that measured boot is judged by.
        assert await guest.run("basename -a /sys/class/tpm/tpm0/pcr-*") == ["pcr-sha256"]
        assert await guest.run("head -c 64 /dev/hwrng | wc -c") == ["64"]

        (line,) = processes_of(description.vm_id)
        assert "the guest" not in line
    assert processes_of(description.vm_id) == []


# xor ax, ax; mov ds, ax; cld; mov dx, 0x3F8; mov si, 0x7C16; next: lodsb; test al, al; jz end; out dx, al; jmp next;
# end: hlt; jmp end; and the words that it says on the serial port.
BOOT_SECTOR = bytes.fromhex("31c0 8ed8 fc baf803 be167c ac 84c0 7403 ee ebf8 f4 ebfd") + b"booted from the disk\n\0"


async def test_a_guest_boots_from_its_disk_alone(host: TestHost, tmp_path: Path, live: Path) -> None:
    (tmp_path / "disk").write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    disk = VmDisk(seal_file(tmp_path / "disk", tmp_path / "disk.sealed"), live)
    async with open_vm(describe(cmdline=""), VmImages(disks=(disk,)), secrets(), host=host.vms) as vm:
        await vm.run()
        await Guest(vm).said("booted from the disk")


async def test_a_guest_boots_again_and_the_power_button_has_it_switch_itself_off(
    host: TestHost, images: GuestImages
) -> None:
    async with booted(host, images.diskless, keys=secrets(word=b"still there")) as guest:
        await guest.vm.console.type(b"echo AGAIN; reboot -f\n")
        await guest.said("AGAIN")
        before = len(guest.text)
        while "READY" not in guest.text[before:]:
            await trio.sleep(0.01)
            assert not guest.vm.is_over
        assert await guest.run("cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/word/raw") == ["still there"]
        assert (await guest.vm.shut_down()).reason == "shut_down"
        assert "Power down" in guest.text


async def test_no_copy_of_a_kernel_or_a_secret_stays_in_a_memory_file(host: TestHost, images: GuestImages) -> None:
    async with open_vm(describe(), images.diskless, secrets(canary=b"canary"), host=host.vms) as vm:
        held = [path for path in Path(f"/proc/{vm.qemu.pid}/fd").iterdir() if "memfd" in str(path.readlink())]
        sizes = {path.readlink().name.split()[0].removeprefix("memfd:"): path.stat().st_size for path in held}
        assert sizes["kernel"] == sizes["secret"] == 0
        # The guest reads the initrd from it, and so it stays: the control that these are the files.
        assert sizes["initrd"] == images.initramfs.stat().st_size


async def test_a_guest_is_paused_until_it_is_run(host: TestHost, images: GuestImages) -> None:
    async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
        assert (await vm.qmp.execute("query-status"))["status"] == "prelaunch"
        assert vm.console.scroll_back == b""


async def test_a_disk_keeps_what_was_written_and_refuses_to_go_back(
    host: TestHost, images: GuestImages, live: Path
) -> None:
    async with booted(host, images.with_disk(live)) as guest:
        await guest.run("echo 'first run' | dd of=/dev/vda conv=notrunc,fsync")
        await guest.vm.console.type(b"poweroff -f\n")
        end = await guest.vm.ended()
    assert end.reason == "powered_off"
    (first,) = end.disk_roots
    before = live.read_bytes()
    assert b"first run" not in before

    async with booted(host, images.with_disk(live, first)) as guest:
        assert await guest.run("head -n 1 /dev/vda") == ["first run"]
        await guest.run("echo 'second run' | dd of=/dev/vda conv=notrunc,fsync")
        end = await guest.vm.kill()
    assert end.reason == "killed"
    (second,) = end.disk_roots

    live.write_bytes(before)
    with pytest.raises(DiskError) as refused:
        async with open_vm(describe(), images.with_disk(live, second), secrets(), host=host.vms):
            pass
    assert refused.value.reason == "wrong_disk_root"
    # The control: the old disk is whole, and is taken where nobody demands a root.
    async with open_vm(describe(), images.with_disk(live), secrets(), host=host.vms):
        pass


async def test_a_guest_that_ignores_the_power_button_is_switched_off(host: TestHost, images: GuestImages) -> None:
    async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
        assert (await vm.shut_down(within_s=0.05)).reason == "shut_down"


async def test_images_that_are_not_the_ones_named_are_not_booted(
    host: TestHost, images: GuestImages, tmp_path: Path, live: Path
) -> None:
    altered = bytearray(images.initrd.path.read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / "altered").write_bytes(altered)
    elsewhere = seal_file(images.initramfs, tmp_path / "again.sealed")
    bad_disk = replace(images.with_disk(live).disks[0], base=replace(images.disk, root=bytes(32)))
    attempts = {
        "chunk_altered": VmImages(images.kernel, replace(images.initrd, path=tmp_path / "altered")),
        "wrong_root": VmImages(images.kernel, replace(elsewhere, root=images.initrd.root)),
        "wrong_key": VmImages(images.kernel, replace(images.initrd, key=images.kernel.key)),
    }
    for reason, attempt in attempts.items():
        description = describe()
        with pytest.raises(SealedImageError) as refused:
            async with open_vm(description, attempt, secrets(), host=host.vms):
                pass
        assert refused.value.reason == reason
        assert processes_of(description.vm_id) == []
    with pytest.raises(DiskError) as refused_disk:
        async with open_vm(describe(), VmImages(disks=(bad_disk,)), secrets(), host=host.vms):
            pass
    assert refused_disk.value.reason == "wrong_root"


@pytest.mark.parametrize(
    ("whom", "reason"), [("qemu", "qemu_failed"), ("vtpm", "vtpm_failed"), ("disk", "disk_failed")]
)
async def test_the_end_of_any_process_ends_the_vm_and_says_so(
    host: TestHost, images: GuestImages, live: Path, whom: str, reason: str
) -> None:
    async with open_vm(describe(), images.with_disk(live), secrets(), host=host.vms) as vm:
        await vm.run()
        child = {"qemu": vm.qemu, "vtpm": vm.vtpm.child, "disk": vm.disks[0].child}[whom]
        child.send(signal.SIGSEGV)
        end = await vm.ended()

        assert end.reason == reason
        assert (end.disk_roots[0] is None) == (whom == "disk")
        assert vm.qemu.status is not None
        assert vm.vtpm.child.status is not None
        assert vm.disks[0].child.status is not None


async def test_a_killing_by_the_host_is_told_from_a_crash(host: TestHost, images: GuestImages) -> None:
    async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
        os.kill(vm.qemu.pid, signal.SIGKILL)
        assert (await vm.ended()).reason == "killed_by_host"


async def test_cancellation_leaves_nothing(host: TestHost, images: GuestImages, live: Path) -> None:
    description, keys = describe(), secrets()
    for patience_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        with trio.move_on_after(patience_s):
            async with open_vm(description, images.with_disk(live), keys, host=host.vms):
                await trio.sleep_forever()
        assert processes_of(description.vm_id) == []
        assert host.vms.settings.users is None or not host.vms.settings.users.taken


async def test_an_error_of_the_caller_comes_out_as_it_is(host: TestHost, images: GuestImages) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_vm(describe(), images.diskless, secrets(), host=host.vms):
            raise KeyError("mine")


async def test_a_vm_runs_once_at_a_time(host: TestHost, images: GuestImages) -> None:
    description = describe()
    async with open_vm(description, images.diskless, secrets(), host=host.vms):
        with pytest.raises(HostError) as refused:
            async with open_vm(description, images.diskless, secrets(), host=host.vms):
                pass
    assert refused.value.reason == "vm_runs_already"


async def test_two_vms_are_two_users(host: TestHost, images: GuestImages) -> None:
    async with (
        open_vm(describe(), images.diskless, secrets(), host=host.vms) as one,
        open_vm(describe(), images.diskless, secrets(), host=host.vms) as other,
    ):
        owners = {
            Path(f"/proc/{child.pid}/status").read_text().split("Uid:")[1].split()[0]
            for child in (one.qemu, one.vtpm.child, other.qemu, other.vtpm.child)
        }
        assert len(owners) == 2
        assert str(os.geteuid()) not in owners
