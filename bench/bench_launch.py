"""From nothing to a guest's first process: a VM from sealed images in its box, against QEMU started by hand.

    pytest bench/bench_launch.py          LAUNCHES=5 for more rounds

Both have the same kernel, initramfs, processor and memory; QEMU by hand has its images in plain files. They take turns.
"""

import os
import socket
import statistics
import subprocess
import time
from pathlib import Path

import pytest
import trio

from bench.conftest import Section
from tccp.node.vm.opening import open_vm
from tests.support.guest import CONSOLE, QEMU, guest_kernel
from tests.support.machines import Guest, GuestImages, TestHost, a_host, describe, secrets

LAUNCHES = int(os.environ.get("LAUNCHES", "3"))
MEMORY_MIB = 192


def memory_mib(*pids: int) -> float:
    """The memory of these processes, each page divided among those that share it."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def memory_files_mib(pid: int) -> float:
    """The memory files without a name that a process holds, but for its own translated code."""
    held = (Path(f"/proc/{pid}/fd") / name for name in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    return sum(file.stat().st_blocks * 512 for file in held if ":initrd" in str(file.readlink())) / (1 << 20)


class ByHand:
    """QEMU as one would start it: ``ready`` is when its console says so."""

    def __init__(self, images: GuestImages, accelerator: str) -> None:
        self.command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35"]
        self.command += ["-accel", accelerator, "-cpu", "max" if accelerator == "tcg" else "host"]
        self.command += ["-m", str(MEMORY_MIB), "-kernel", str(guest_kernel()), "-initrd", str(images.initramfs)]
        self.command += ["-append", CONSOLE, "-device", "virtio-rng-pci"]
        self.command += ["-drive", f"file={images.folder / 'disk'},format=raw,if=virtio"]

    def measure(self, folder: Path) -> tuple[float, float]:
        """Seconds until the guest is ready, and QEMU's memory then."""
        path = folder / "by-hand.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            start = time.perf_counter()
            serial = ["-chardev", f"socket,id=c,path={path}", "-serial", "chardev:c"]
            with subprocess.Popen([*self.command, *serial]) as qemu:
                try:
                    console, _ = listener.accept()
                    said = b""
                    with console:
                        while b"READY" not in said:
                            said += console.recv(4096)
                        return time.perf_counter() - start, memory_mib(qemu.pid)
                finally:
                    qemu.kill()
                    path.unlink()


async def ours(host: TestHost, images: GuestImages, live: Path) -> tuple[float, float, float, float]:
    """Seconds until the VM is there, paused, and until its guest is ready; memory of QEMU, and of all the rest."""
    start = time.perf_counter()
    async with open_vm(describe(memory_mib=MEMORY_MIB), images.with_disk(live), secrets(), host=host.vms) as vm:
        opened = time.perf_counter() - start
        await vm.run()
        await Guest(vm).said("READY")
        ready = time.perf_counter() - start
        beside = memory_mib(vm.vtpm.child.pid, *(disk.child.pid for disk in vm.disks)) + memory_files_mib(vm.qemu.pid)
        return opened, ready, memory_mib(vm.qemu.pid), beside


def median(values: list[float]) -> float:
    return statistics.median(values)


@pytest.mark.skipif(os.geteuid() != 0, reason="VMs run as users of their own")
async def test_a_launch_beside_qemu_by_hand(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("launch")
    images = GuestImages(folder / "images")
    hand: list[tuple[float, float]] = []
    own: list[tuple[float, float, float, float]] = []
    async with a_host(folder) as host:
        peer = ByHand(images, host.vms.accelerator)
        await trio.to_thread.run_sync(peer.measure, folder)  # warms the page cache
        before = memory_mib(os.getpid())
        for turn in range(LAUNCHES):
            hand.append(await trio.to_thread.run_sync(peer.measure, folder))
            own.append(await ours(host, images, folder / f"live-{turn}"))
        daemon = (memory_mib(os.getpid()) - before) / LAUNCHES
        accelerator = host.vms.accelerator
    by_hand, plain = (median([row[column] for row in hand]) for column in range(2))
    opened, ready, qemu, beside = (median([row[column] for row in own]) for column in range(4))
    section = Section(
        "Launch of a VM",
        f"Medians of {LAUNCHES}, in turns, {accelerator}, {MEMORY_MIB} MiB. By hand: QEMU with a plain kernel, "
        "initramfs and disk, no TPM. Ours: the three are sealed and verified, the vTPM is manufactured and certified, "
        "the disk is made and served by a process of its own, everything is confined. Memory is proportional (PSS); "
        "beside QEMU are swtpm, the disk's process, the decrypted initramfs, and what the daemon grows by for a VM.",
        ["", "by hand", "tccp", "difference"],
    )
    section.rows.append(["start to paused machine", "-", f"{opened * 1e3:.0f} ms", "-"])
    section.rows.append(
        ["start to first process", f"{by_hand:.2f} s", f"{ready:.2f} s", f"{(ready - by_hand) * 1e3:+.0f} ms"]
    )
    section.rows.append(["memory of QEMU", f"{plain:.0f} MiB", f"{qemu:.0f} MiB", f"{qemu - plain:+.0f} MiB"])
    section.rows.append(["memory beside QEMU", "0 MiB", f"{beside + daemon:.0f} MiB", f"{beside + daemon:+.0f} MiB"])
    section.save()
    for row in [section.columns, *section.rows]:
        print("  ".join(f"{cell:>24}" for cell in row))
