"""Moving and suspending a VM, against QEMU's own migration of the same guest between two QEMUs started by hand.

    pytest bench/bench_migration.py          MOVES=5 for more rounds

By hand: one Unix socket between two QEMUs without vTPM and disk, nothing encrypted; or a plain file. Ours: over TLS 1.3
between two hosts, with its vTPM; or a sealed file. The guest is the same and either idle or writes to its memory all
the time. They take turns.
"""

import contextlib
import os
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from bench.conftest import Section
from tccp.node.vm.description import VmSecrets
from tccp.node.vm.migration import Pace, query, send_out, take_in
from tccp.node.vm.opening import open_vm
from tccp.node.vm.qmp import Qmp
from tccp.node.vm.state import ResumedState, state_key
from tccp.node.vm.streams import streams_of
from tccp.node.vm.vm import Vm
from tests.support.guest import CONSOLE, QEMU, guest_kernel
from tests.support.machines import Guest, GuestImages, TestHost, a_host, booted, describe, secrets
from tests.support.wires import tls_wires

MOVES = int(os.environ.get("MOVES", "3"))
MEMORY_MIB = 256
FILL = "head -c 50000000 /dev/urandom > /tmp/random; echo FILLED"
DIRTY = "(while true; do dd if=/dev/urandom of=/tmp/dirty bs=64k count=64 2>/dev/null; done) & echo"


@dataclass(frozen=True)
class Move:
    """One of them, in seconds and bytes."""

    total_s: float
    downtime_s: float
    sent_bytes: int


class ByHand:
    """QEMU with a plain kernel and initramfs, driven by our own client of its monitor."""

    def __init__(self, images: GuestImages, accelerator: str) -> None:
        self.command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-S"]
        self.command += ["-accel", accelerator, "-cpu", "max" if accelerator == "tcg" else "host"]
        self.command += ["-m", str(MEMORY_MIB), "-kernel", str(guest_kernel()), "-initrd", str(images.initramfs)]
        self.command += ["-append", CONSOLE, "-device", "virtio-rng-pci"]

    @asynccontextmanager
    async def start(self, *options: str) -> AsyncIterator[tuple[Qmp, "trio.socket.SocketType"]]:
        """A paused QEMU: its monitor and console."""
        ours, theirs = socket.socketpair()
        console, console_end = socket.socketpair()
        command = [*self.command, "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
        command += ["-chardev", f"socket,id=console,fd={console_end.fileno()}", "-serial", "chardev:console", *options]
        with ours, theirs, console, console_end:
            async with trio.open_nursery() as nursery:
                process = await trio.lowlevel.open_process(command, pass_fds=[theirs.fileno(), console_end.fileno()])
                theirs.close()
                console_end.close()
                qmp = Qmp(ours, lambda _event: None)
                nursery.start_soon(qmp.run)
                try:
                    await qmp.negotiate()
                    yield qmp, trio.socket.from_stdlib_socket(console)
                finally:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def booted(self, commands: list[str]) -> AsyncIterator[Qmp]:
        """One whose guest has run *commands*."""
        async with self.start() as (qmp, console):
            await qmp.execute("cont")
            await _until(console, b"READY")
            for command in commands:
                await console.send(f"{command}; echo DO''NE\n".encode())
                await _until(console, b"DONE")
            yield qmp

    async def move(self, commands: list[str]) -> Move:
        """To another one, over a socket pair."""
        async with self.booted(commands) as here, self.start("-incoming", "defer") as (there, _):
            ours, theirs = socket.socketpair()
            start = time.perf_counter()
            with ours, theirs:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take_in, there, theirs.fileno())
                    sent = await send_out(here, ours.fileno(), Pace())
            await there.execute("cont")
            return Move(time.perf_counter() - start, sent.downtime_ms / 1e3, sent.sent_bytes)

    async def suspend(self, commands: list[str], path: Path) -> tuple[float, float]:
        """Into a plain synced file, and out of it: seconds."""
        async with self.booted(commands) as here:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            start = time.perf_counter()
            await here.execute("stop")
            await send_out(here, file, Pace())
            await trio.to_thread.run_sync(os.fsync, file)
            took = time.perf_counter() - start
            os.close(file)
        start = time.perf_counter()
        async with self.start("-incoming", "defer") as (there, _):
            file = os.open(path, os.O_RDONLY)
            with contextlib.closing(os.fdopen(file, "rb")):
                await take_in(there, file)
                await there.execute("cont")
            return took, time.perf_counter() - start


async def _until(console: "trio.socket.SocketType", words: bytes) -> None:
    said = b""
    while words not in said:
        said += await console.recv(4096)


@asynccontextmanager
async def _guest(host: TestHost, images: GuestImages, keys: VmSecrets, commands: list[str]) -> AsyncIterator[Guest]:
    async with booted(host, images.diskless, description=describe(memory_mib=MEMORY_MIB), keys=keys) as guest:
        for command in commands:
            await guest.run(command)
        yield guest


async def move_ours(host: TestHost, other: TestHost, images: GuestImages, commands: list[str], pace: Pace) -> Move:
    """Over TLS, to a VM that is opened meanwhile: images, vTPM and QEMU there are counted; by hand it waits already."""
    keys = secrets()
    async with _guest(host, images, keys, commands) as guest, tls_wires() as wires:
        arrived: list[Vm] = []
        came, leave = trio.Event(), trio.Event()

        async def take() -> None:
            there = streams_of(wires.there)
            opened = open_vm(guest.vm.description, images.diskless, keys, host=other.vms, incoming=there)
            async with opened as vm:
                arrived.append(vm)
                came.set()
                await leave.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            start = time.perf_counter()
            sent = await guest.vm.send(streams_of(wires.here), pace=pace)
            await came.wait()
            await arrived[0].run()
            total = time.perf_counter() - start
            down = (await query(guest.vm.qmp)).downtime_ms
            leave.set()
        return Move(total, down / 1e3, sent.state_bytes)


async def suspend_ours(host: TestHost, images: GuestImages, commands: list[str], path: Path) -> tuple[float, float]:
    """Into a sealed file, and out of it: seconds, with the end and the start of all that belongs to the VM."""
    keys = secrets()
    async with _guest(host, images, keys, commands) as guest:
        start = time.perf_counter()
        state = await guest.vm.suspend(path, state_key(keys.vm_key, 1))
        took = time.perf_counter() - start
        description = guest.vm.description
    start = time.perf_counter()
    resumed = ResumedState(path, state.root, state_key(keys.vm_key, 1))
    async with open_vm(description, images.diskless, keys, host=host.vms, resume=resumed) as vm:
        await vm.run()
        return took, time.perf_counter() - start


def _median(moves: list[Move]) -> Move:
    total, down, sent = (
        statistics.median([getattr(move, name) for move in moves]) for name in ("total_s", "downtime_s", "sent_bytes")
    )
    return Move(total, down, int(sent))


@pytest.mark.skipif(os.geteuid() != 0, reason="VMs run as users of their own")
async def test_moving_and_suspending_beside_qemu_by_hand(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("move")
    images = GuestImages(folder / "images")
    (folder / "other").mkdir(mode=0o711)
    section = Section(
        "Moving and suspending a VM",
        f"Medians of {MOVES}, in turns, {MEMORY_MIB} MiB, 50 MB of them random. By hand: two QEMUs that run already "
        "and a socket between them, or a plain synced file; no vTPM, nothing encrypted. Ours: TLS 1.3 by TCP between "
        "two hosts in one process, or a sealed synced file; with the vTPM, and with all that is started and ended.",
        ["", "by hand", "tccp", "ratio"],
    )
    async with a_host(folder) as host, a_host(folder / "other") as other:
        peer = ByHand(images, host.vms.accelerator)
        for name, commands in (("idle", [FILL]), ("writing", [FILL, DIRTY])):
            hand: list[Move] = []
            own: dict[bool, list[Move]] = {False: [], True: []}
            for _ in range(MOVES):
                hand.append(await peer.move(commands))
                for differences, moves in own.items():
                    pace = Pace(repeats_differences=differences)
                    moves.append(await move_ours(host, other, images, commands, pace))
            theirs = _median(hand)
            for differences, moves in own.items():
                ours = _median(moves)
                what = f"{name}{', XBZRLE' if differences else ''}"
                section.rows += _rows(what, theirs, ours)
        by_hand = [await peer.suspend([FILL], folder / "plain") for _ in range(MOVES)]
        sealed = [await suspend_ours(host, images, [FILL], folder / "sealed") for _ in range(MOVES)]
    for column, what in enumerate(("suspend", "resume")):
        plain, ours_s = (statistics.median([row[column] for row in rows]) for rows in (by_hand, sealed))
        section.rows.append([what, f"{plain:.2f} s", f"{ours_s:.2f} s", f"{ours_s / plain:.2f}"])
    section.save()
    for row in [section.columns, *section.rows]:
        print("  ".join(f"{cell:>28}" for cell in row))


def _rows(what: str, theirs: Move, ours: Move) -> list[list[str]]:
    ratio = ours.total_s / theirs.total_s
    return [
        [f"{what}: total", f"{theirs.total_s:.2f} s", f"{ours.total_s:.2f} s", f"{ratio:.2f}"],
        [f"{what}: guest stands still", f"{theirs.downtime_s * 1e3:.0f} ms", f"{ours.downtime_s * 1e3:.0f} ms", "-"],
        [f"{what}: sent", f"{theirs.sent_bytes / 1e6:.0f} MB", f"{ours.sent_bytes / 1e6:.0f} MB", "-"],
    ]
