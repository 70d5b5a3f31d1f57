"""Moving and suspending a VM, against QEMU's own migration of the same guest between two QEMUs started by hand.

    pytest bench/bench_migration.py          MOVES=9 for more rounds

By hand: a socket pair between two QEMUs without vTPM and disk, nothing encrypted; or a plain file. Ours: over TLS 1.3
between two hosts, with its vTPM; or a sealed file. The guest is the same and either idle or writes to its memory all
the time. They take turns, and whoever is not on stands still. One guest each goes to and fro.
"""

import os
import statistics
import time
from pathlib import Path

import pytest
import trio

from bench.by_hand import ByHand
from bench.conftest import Section
from bench.live_vms import DISK_MIB, a_cloud, settle
from bench.moves import Move, median, rows
from tccp.node.vm.migration import Pace, query
from tccp.node.vm.opening import open_vm
from tccp.node.vm.qmp import Qmp
from tccp.node.vm.state import ResumedState, state_key
from tccp.node.vm.streams import Streams, streams_of
from tccp.node.vm.vm import Vm
from tccp.protocol.vm_control import VmTransfer
from tests.support.machines import Guest, GuestImages, TestHost, a_host, describe, secrets
from tests.support.wires import tls_wires

MOVES = int(os.environ.get("MOVES", "5"))
MEMORY_MIB = 256
FILL = "head -c 50000000 /dev/urandom > /tmp/random"
# 4 MB of it over and over, a little of each page changed: what XBZRLE is made for.
DIRTY = (
    "head -c 4000000 /dev/urandom > /tmp/d; (n=0; while true; do n=$((n+1));"
    " i=0; while [ $i -lt 900 ]; do echo $n | dd of=/tmp/d bs=4096 seek=$i conv=notrunc 2>/dev/null; i=$((i+9)); done;"
    " dd if=/dev/urandom of=/tmp/e bs=64k count=32 2>/dev/null; done) & echo"
)

PACES = {
    "": Pace(),
    ", XBZRLE": Pace(repeats_differences=True),
    ", no auto-converge": Pace(slows_guest=False),
}


class Stay:
    """A VM that is open until it is to leave."""

    def __init__(self, vm: Vm) -> None:
        self.vm, self._leave, self.gone = vm, trio.Event(), trio.Event()
        self.wait = self._leave.wait

    async def leave(self) -> None:
        """Until nothing is left."""
        self._leave.set()
        await self.gone.wait()


class Ours:
    """One guest, wherever it is just now: on one of two hosts."""

    def __init__(self, hosts: tuple[TestHost, TestHost], images: GuestImages, nursery: trio.Nursery) -> None:
        self._hosts, self._images, self._nursery = hosts, images.diskless, nursery
        self._keys, self._description = secrets(), describe(memory_mib=MEMORY_MIB)
        self._generation = 0
        self._stay: Stay

    async def boot(self) -> None:
        """Switch it on."""
        self._stay = await self._nursery.start(self._open, None, None)
        await self.vm.run()
        await Guest(self.vm).said("READY")

    async def run(self, command: str) -> None:
        """In the guest."""
        await Guest(self.vm).run(command)

    @property
    def vm(self) -> Vm:
        """Where it is."""
        return self._stay.vm

    @property
    def qmp(self) -> Qmp:
        """Of the QEMU that it is in."""
        return self.vm.qmp

    async def move(self, pace: Pace) -> Move:
        """To the other host; images, vTPM and QEMU there are counted, by hand they wait already."""
        self._hosts = self._hosts[::-1]
        async with tls_wires() as wires:
            opened: list[Stay] = []

            async def take_in() -> None:
                opened.append(await self._nursery.start(self._open, streams_of(wires.there), None))

            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_in)
                sent = await self.vm.send(streams_of(wires.here), pace=pace)
            (there,) = opened
            await there.vm.run()
            took = time.perf_counter() - start
        down = (await query(self.vm.qmp)).downtime_ms
        await self._stay.leave()
        self._stay = there
        return Move(took, down / 1e3, sent.state_bytes)

    async def suspend(self, path: Path) -> tuple[float, float]:
        """Into a sealed file, and out of it: seconds, with the end and the start of all that belongs to the VM."""
        self._generation += 1
        start = time.perf_counter()
        state = await self.vm.suspend(path, state_key(self._keys.vm_key, self._generation))
        took = time.perf_counter() - start
        await self._stay.leave()
        start = time.perf_counter()
        resumed = ResumedState(path, state.root, state_key(self._keys.vm_key, self._generation))
        self._stay = await self._nursery.start(self._open, None, resumed)
        await self.vm.run()
        return took, time.perf_counter() - start

    async def _open(
        self,
        incoming: Streams | None,
        resume: ResumedState | None,
        task_status: trio.TaskStatus[Stay],
    ) -> None:
        opened = open_vm(
            self._description, self._images, self._keys, host=self._hosts[0].vms, incoming=incoming, resume=resume
        )
        async with opened as vm:
            stay = Stay(vm)
            task_status.started(stay)
            await stay.wait()
        stay.gone.set()


async def take_turns(hand: ByHand, ours: Ours, what: str, paces: dict[str, Pace], section: Section) -> None:
    """Move both, by turns, at each of *paces*."""
    moves: dict[tuple[str, str], list[Move]] = {}
    for _ in range(MOVES):
        for words, pace in paces.items():
            for name, guest in (("hand", hand), ("ours", ours)):
                await guest.qmp.execute("cont")
                moves.setdefault((name, words), []).append(await guest.move(pace))
                await guest.qmp.execute("stop")
    for words in paces:
        section.rows += rows(what + words, median(moves["hand", words]), median(moves["ours", words]))


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
    async with a_host(folder) as host, a_host(folder / "other") as other, trio.open_nursery() as nursery:
        ours = Ours((host, other), images, nursery)
        async with ByHand(images, host.vms.accelerator, MEMORY_MIB) as hand:
            await ours.boot()
            for guest in (hand, ours):
                await guest.run(FILL)
                await guest.qmp.execute("stop")
            await take_turns(hand, ours, "idle", {"": Pace()}, section)
            saved: dict[str, list[tuple[float, float]]] = {"hand": [], "ours": []}
            for _ in range(MOVES):
                for name, each in (("hand", hand), ("ours", ours)):
                    await each.qmp.execute("cont")
                    saved[name].append(await each.suspend(folder / name))
                    await each.qmp.execute("stop")
            for guest in (hand, ours):
                await guest.qmp.execute("cont")
                await guest.run(DIRTY)
                await guest.qmp.execute("stop")
            await take_turns(hand, ours, "writing", PACES, section)
        nursery.cancel_scope.cancel()
    for column, what in enumerate(("suspend", "resume")):
        plain, sealed = (statistics.median([took[column] for took in saved[name]]) for name in ("hand", "ours"))
        section.rows.append([what, f"{plain:.2f} s", f"{sealed:.2f} s", f"{sealed / plain:.2f}"])
    section.save()
    tell(section)


@pytest.mark.skipif(os.geteuid() != 0, reason="VMs run as users of their own")
async def test_moving_through_the_coordinator() -> None:
    """The same to and fro, asked for at a node: from the request to the first instruction there, commit and all."""
    section = Section(
        "A whole move",
        f"Medians of {MOVES} between two nodes under one coordinator, all in one process: a VM of 192 MiB with a disk "
        f"of {DISK_MIB} MiB, half of it random; from the request to where it runs. The standstill is from the guest's "
        "stop at the source to its going on at the destination: the last of memory and disk, the wiping, and the "
        "commit in database and log.",
        ["", "tccp"],
    )
    took: list[VmTransfer] = []
    async with a_cloud("alpha", "beta", lease_s=60) as cloud:
        _, ticket = await cloud.launch("alpha")
        for number in range(MOVES):
            there, here = ("beta", "alpha") if number % 2 == 0 else ("alpha", "beta")
            info = await cloud.receive(there, ticket)
            assert info.transfer is not None
            took.append(info.transfer)
            await settle(cloud.nodes[here][0], info.vm_id, "moved")
    for what, values in (
        ("total", [f"{each.total_ms / 1e3:.2f} s" for each in took]),
        ("guest stands still", [f"{each.still_ms} ms" for each in took]),
        ("sent of memory", [f"{each.state_sent_bytes / 1e6:.0f} MB" for each in took]),
        ("sent of disks", [f"{each.disk_sent_bytes / 1e6:.0f} MB" for each in took]),
    ):
        section.rows.append([what, sorted(values, key=lambda text: float(text.split()[0]))[len(values) // 2]])
    section.save()
    tell(section)


def tell(section: Section) -> None:
    """On the screen."""
    for row in [section.columns, *section.rows]:
        print("  ".join(f"{cell:>28}" for cell in row))
