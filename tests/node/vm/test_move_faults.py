"""Each process of a guest that moves is killed, or stands still, at each phase: the guest is whole where it was."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest
import trio

from tccp.errors import HostError
from tccp.node.silence import listening
from tccp.node.vm import disk
from tccp.node.vm.description import VmImages, VmSecrets
from tccp.node.vm.migration import Pace
from tccp.node.vm.opening import open_vm
from tccp.node.vm.streams import streams_of
from tccp.protocol.transfer import TransferProgress
from tccp.transport.bulk_stream import BulkStream
from tests.node.vm.test_migration import elsewhere
from tests.support.machines import Guest, GuestImages, TestHost, booted, secrets
from tests.support.processes import children_of
from tests.support.wires import tls_wires

__all__ = ["elsewhere"]

PARTS = ("qemu", "disk", "vtpm")
PHASES = ("announced", "sending", "there")
KILL, FREEZE = signal.SIGKILL, signal.SIGSTOP
# What is worth its time each day; with TCCP_FAULTS=all in the environment all of them are tried.
EACH_DAY = {
    *product(("announced", "sending"), PARTS, [KILL]),
    *product(["sending"], PARTS, [FREEZE]),
    ("there", "qemu", KILL),
}
ALL = os.environ.get("TCCP_FAULTS") == "all"
SLOWLY = Pace(bytes_per_s=32 << 20)  # a guest is on its way for three seconds
DEADLINE_S = 180.0
PATIENCE_S = 60.0
LITTLE_PATIENCE_S = 5.0  # of whoever is to find a peer that stands still, instead of a node's 20 s and 60 s
FROZEN_S = 0.5
LOOK_S = 0.01


def children() -> dict[int, str]:
    """Our own processes that are parts of VMs."""
    return {pid: name for pid, words in children_of(os.getpid()).items() if (name := _name(words))}


def _name(words: list[str]) -> str:
    for name in ("qemu", "swtpm"):
        if words[0].startswith(name):
            return {"swtpm": "vtpm"}.get(name, name)
    return "disk" if any("disk_child" in word for word in words) else ""


class Move:
    """A guest that is on its way, from `moving`."""

    def __init__(self, guest: Guest, patience_s: float) -> None:
        self.guest, self.patience_s = guest, patience_s
        self.before = children()
        self.sending, self.there, self.came = trio.Event(), trio.Event(), trio.Event()
        self.let_go = trio.Event()  # the destination has noticed that it is over
        self.problems: dict[str, HostError] = {}

    async def source(self, streams: list[BulkStream]) -> None:
        """As a node sends."""
        try:
            async with listening(streams, self.patience_s):
                await self.guest.vm.send(streams_of(streams), pace=SLOWLY, on_progress=self._progress)
            self.there.set()
        except HostError as problem:
            self.problems["source"] = problem
            for stream in streams:
                stream.close()

    async def destination(self, streams: list[BulkStream], images: VmImages, keys: VmSecrets, host: TestHost) -> None:
        """As a node receives; what has come is let go of when it is `there`, or broken."""
        description = self.guest.vm.description
        try:
            async with (
                listening(streams, self.patience_s) as watching,
                open_vm(description, images, keys, host=host.vms, incoming=streams_of(streams)),
            ):
                watching.cancel()
                self.came.set()
                await trio.sleep_forever()
        except HostError as problem:
            self.problems["destination"] = problem
            for stream in streams:
                stream.close()
            self.let_go.set()

    def _progress(self, progress: TransferProgress) -> None:
        if progress.sent_bytes:
            self.sending.set()

    async def process(self, part: str) -> int:
        """That of the copy, once it is there; 0 when the move is over before."""
        while not self.problems:
            for pid, name in children().items():
                if name == part and pid not in self.before:
                    return pid
            await trio.sleep(LOOK_S)
        return 0

    async def until(self, phase: str) -> None:
        """That phase, or the end of the move."""
        awaited = {"announced": [], "sending": [self.sending], "there": [self.there, self.came]}[phase]
        while not self.problems and not all(event.is_set() for event in awaited):  # noqa: ASYNC110 - two ends of it
            await trio.sleep(LOOK_S)


@asynccontextmanager
async def moving(
    guest: Guest, keys: VmSecrets, images: VmImages, elsewhere: TestHost, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[Move]:
    """A guest that is sent, with its disk, while the block goes on; then nothing is left of it elsewhere."""
    move = Move(guest, patience_s)
    async with tls_wires(1) as wires, trio.open_nursery() as nursery:
        nursery.start_soon(move.destination, wires.there, images, keys, elsewhere)
        async with trio.open_nursery() as sending:
            sending.start_soon(move.source, wires.here)
            yield move
        if move.problems:
            with trio.move_on_after(2 * PATIENCE_S):
                await move.let_go.wait()
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs is not waited for as long as a real one may need."""
    monkeypatch.setattr(disk, "CLOSE_S", FROZEN_S)


async def goes_on(guest: Guest, count: int) -> None:
    """The guest answers, and its disk has what it wrote last."""
    assert await guest.run(f"echo {count} | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null; head -n 1 /dev/vda") == [
        str(count)
    ]


async def test_a_guest_goes_on_whatever_happens_to_its_copy_where_it_was_to_go(
    host: TestHost, elsewhere: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    keys = secrets()
    async with booted(host, images.with_disk(live), keys=keys) as guest:
        await guest.run("head -c 20000000 /dev/urandom > /tmp/random")
        faults = [fault for fault in product(PHASES, PARTS, (KILL, FREEZE)) if ALL or fault in EACH_DAY]
        for count, (phase, part, number) in enumerate(faults):
            copy = images.with_disk(tmp_path / f"copy-{count}")
            with trio.fail_after(DEADLINE_S):
                patience_s = LITTLE_PATIENCE_S if number == FREEZE else PATIENCE_S
                async with moving(guest, keys, copy, elsewhere, patience_s=patience_s) as move:
                    struck = await move.process(part)
                    await move.until(phase)
                    if struck:
                        os.kill(struck, number)
            assert struck or number == FREEZE, (phase, part, move.problems)
            if move.there.is_set():
                await guest.vm.run()
            else:
                assert move.problems["source"], (phase, part, number)
            await goes_on(guest, count)
        assert not guest.vm.is_over


async def test_a_guest_goes_on_when_its_own_processes_stand_still_for_a_while_and_ends_when_one_dies(
    host: TestHost, elsewhere: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    keys = secrets()
    async with booted(host, images.with_disk(live), keys=keys) as guest:
        await guest.run("head -c 20000000 /dev/urandom > /tmp/random")
        own = {name: pid for pid, name in children().items()}
        for count, (phase, part) in enumerate(product(PHASES[1:] if ALL else ["sending"], PARTS)):
            copy = images.with_disk(tmp_path / f"copy-{count}")
            with trio.fail_after(DEADLINE_S):
                async with moving(guest, keys, copy, elsewhere) as move:
                    await move.until(phase)
                    os.kill(own[part], FREEZE)
                    await trio.sleep(FROZEN_S)
                    os.kill(own[part], signal.SIGCONT)
            if move.there.is_set():
                await guest.vm.run()
            await goes_on(guest, count)

        async with moving(guest, keys, images.with_disk(tmp_path / "last"), elsewhere) as move:
            await move.until("sending")
            os.kill(own["disk"], KILL)
        assert not move.there.is_set()
        assert "source" in move.problems
        assert (await guest.vm.ended()).reason == "disk_failed"


@asynccontextmanager
async def full_disk(folder: Path, kib: int) -> AsyncIterator[Path]:
    """A file system that has so much room and no more."""
    folder.mkdir(mode=0o711)
    mounted = ["mount", "-t", "tmpfs", "-o", f"mode=711,size={kib}k", "tccp-test", str(folder)]
    await trio.run_process(mounted)
    try:
        yield folder
    finally:
        await trio.run_process(["umount", "--lazy", str(folder)])


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own is mounted, which takes root")
@pytest.mark.parametrize(
    ("kib", "who", "reason"),
    [(64, "destination", "no_space"), (65_800, "source", "mirror_failed")],
    ids=["from the beginning", "in the middle"],
)
async def test_a_guest_goes_on_when_there_is_no_room_where_it_was_to_go(  # noqa: PLR0917
    host: TestHost,
    elsewhere: TestHost,
    images: GuestImages,
    live: Path,
    tmp_path: Path,
    kib: int,
    who: str,
    reason: str,
) -> None:
    keys = secrets()
    async with booted(host, images.with_disk(live), keys=keys) as guest, full_disk(tmp_path / "full", kib) as full:
        await guest.run("head -c 800000 /dev/urandom | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null")
        with trio.fail_after(DEADLINE_S):
            async with moving(guest, keys, images.with_disk(full / "copy"), elsewhere) as move:
                pass
        assert not move.there.is_set()
        assert move.problems[who].reason == reason
        await goes_on(guest, 1)

        with trio.fail_after(DEADLINE_S):
            async with moving(guest, keys, images.with_disk(tmp_path / "copy"), elsewhere) as move:
                await move.until("there")
        assert move.there.is_set(), "elsewhere there is room"
