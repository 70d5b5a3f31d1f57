"""The end of a VM: which of its processes was the first to go, and why."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from tccp.node.vm.child import Child
from tccp.node.vm.keeper import Keeper

# When one of a VM's processes ends, the others may be about to end for the same good reason.
SETTLE_S = 1.0

EndReason = Literal[
    "powered_off",
    "shut_down",
    "killed",
    "suspended",
    "forgotten",
    "time_over",
    "qemu_failed",
    "out_of_memory",
    "killed_by_host",
    "keeper_failed",
    "vtpm_failed",
    "disk_failed",
    "bug",
]


@dataclass(frozen=True, slots=True)
class VmEnd:
    """How it ended.

    Attributes:
        disk_roots: What to demand of each disk at the next start; None where nobody could say.
        disk_marks: How far each had come for certain; empty where nobody knows.
        vtpm_mark: And its vTPM.
        vtpm_sha256: What to demand of the vTPM's state; empty where it is elsewhere.
        has_run: Whether the guest may have run.
    """

    reason: EndReason
    detail: str = ""
    disk_roots: tuple[bytes | None, ...] = ()
    disk_marks: tuple[bytes, ...] = ()
    vtpm_sha256: bytes = b""
    vtpm_mark: bytes = b""
    has_run: bool = True


@dataclass(frozen=True, slots=True)
class FirstEnd:
    """The first of a VM's processes that has ended.

    Attributes:
        oom_killed: Whether the kernel has killed somebody for memory meanwhile, in our control group or on this host.
    """

    child: Child
    oom_killed: bool


@dataclass(frozen=True, slots=True)
class Processes:
    """Those of one VM, and the keeper of all."""

    qemu: Child
    vtpm: Child
    disks: tuple[Child, ...]
    keeper: Keeper

    @property
    def own(self) -> tuple[Child, ...]:
        """Without the keeper."""
        return self.qemu, self.vtpm, *self.disks

    async def kill(self) -> None:
        """Kill its own, and return when they are gone."""
        for child in self.own:
            await child.kill()

    async def first_end(self) -> FirstEnd:
        """Until one of them has ended."""
        oom_before = _oom_kills()
        child = await _first_to_end([*self.own, self.keeper.child])
        with trio.move_on_after(SETTLE_S):
            await self.qemu.wait()
        return FirstEnd(child, _oom_kills() > oom_before)

    def why(self, first: FirstEnd, asked: EndReason | None) -> tuple[EndReason, str]:
        """Why the VM has ended, and what is to be said of it beside, where it was *asked* for one end or none."""
        if asked in ("killed", "suspended", "forgotten"):
            return asked, ""
        if self.keeper.child.status is not None:
            return "keeper_failed", _obituary(self.keeper.child)
        if self.qemu.status == 0:
            return asked or "powered_off", ""
        if self.keeper.is_past:
            return "time_over", ""
        return self._which_failed(first)

    def _which_failed(self, first: FirstEnd) -> tuple[EndReason, str]:
        if self.qemu.signal == signal.SIGKILL:  # we have not done it yet; the others may have noticed before us
            return ("out_of_memory" if first.oom_killed else "killed_by_host"), ""
        # A vTPM ends well when QEMU has gone; anything else is a fault of its own.
        if self.vtpm.status or (self.vtpm is first.child and self.qemu.status is None):
            return "vtpm_failed", _obituary(self.vtpm)
        for disk in self.disks:
            if disk.status is not None:
                return "disk_failed", _obituary(disk)
        return "qemu_failed", _obituary(self.qemu)


async def _first_to_end(children: list[Child]) -> Child:
    ended: list[Child] = []

    async def note(child: Child) -> None:
        await child.wait()
        ended.append(child)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for child in children:
            nursery.start_soon(note, child)
    return ended[0]


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory so far, in our control group or on the whole machine."""
    return sum(_counter(path) for path in (*_memory_events(), Path("/proc/vmstat")))


def _memory_events() -> list[Path]:
    """The file with the events of our own control group, which has our children's, too; version 2 only."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # a kernel without them
        return []
    return [Path(f"/sys/fs/cgroup{line[3:]}/memory.events") for line in lines if line.startswith("0::")]


def _counter(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # another kind of machine, or hidden from a service
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _obituary(child: Child) -> str:
    return f"{child.name} ended with {child.status}: {child.said[-300:]}"
