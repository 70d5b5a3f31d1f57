"""A virtual machine that runs, or is paused (`tccp.node.vm.opening` starts it), to its end.

run          the guest runs from here on
shut_down    as by pressing the power button
kill         as by pulling the plug
suspend      its state goes into a sealed file, and it ends
send         its state goes to another node while it runs; then it stands still, until it is run again or forgotten
forget       it ends, and nothing of it stays here but what is on the host's disk, as it is
ended        why it ended, and the disks' roots; never raises
"""

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog
import trio

from tccp.core.image import ImageKey
from tccp.errors import HostError, TccpError
from tccp.node.vm.child import Child
from tccp.node.vm.console import Console
from tccp.node.vm.description import VmDescription
from tccp.node.vm.disk import DiskProcess
from tccp.node.vm.keeper import Keeper
from tccp.node.vm.marks import current_marks, keep_marks
from tccp.node.vm.migration import Pace
from tccp.node.vm.preamble import Preamble
from tccp.node.vm.qmp import Qmp, object_of
from tccp.node.vm.sending import OnProgress, send_vm
from tccp.node.vm.state import SuspendedState, write_state
from tccp.node.vm.streams import Streams
from tccp.node.vm.vtpm import Vtpm
from tccp.protocol.transfer import TransferSent

POWER_BUTTON_S = 60.0
QUIT_S = 10.0
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

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VmEnd:
    """How it ended.

    Attributes:
        disk_roots: What to demand of each disk at the next start; None where nobody could say.
        disk_marks: How far each had come for certain; empty where nobody knows.
        vtpm_mark: And its vTPM.
        vtpm_sha256: What to demand of the vTPM's state; empty where it is elsewhere.
    """

    reason: EndReason
    detail: str = ""
    disk_roots: tuple[bytes | None, ...] = ()
    disk_marks: tuple[bytes, ...] = ()
    vtpm_sha256: bytes = b""
    vtpm_mark: bytes = b""


@dataclass(slots=True)
class Vm:
    """A virtual machine, made by `open_vm`.

    Attributes:
        console_path: The socket of its console.
    """

    description: VmDescription
    console_path: Path
    qemu: Child
    qmp: Qmp
    console: Console
    vtpm: Vtpm
    disks: tuple[DiskProcess, ...]
    keeper: Keeper
    _asked: EndReason | None = None
    _end: VmEnd | None = None
    _over: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Let the guest run.

        Raises:
            HostError: ``qmp_gone``: it has ended; ``state_unwritable``.
        """
        await trio.to_thread.run_sync(self.vtpm.state.begin)
        await self.qmp.execute("cont")

    async def shut_down(self, within_s: float = POWER_BUTTON_S) -> VmEnd:
        """Ask the guest to switch off; after *within_s* it is switched off."""
        self._asked = self._asked or "shut_down"
        for command, patience_s in (("system_powerdown", within_s), ("quit", QUIT_S)):
            with trio.move_on_after(patience_s), contextlib.suppress(HostError):
                await self.qmp.execute(command)
                return await self.ended()
        await self.qemu.kill()
        return await self.ended()

    async def kill(self) -> VmEnd:
        """Stop it at once. What the guest has flushed to its disks stays."""
        self._asked = "killed"
        await self.qemu.kill()
        return await self.ended()

    async def suspend(self, path: Path, key: ImageKey) -> SuspendedState:
        """Let the guest stand still, seal its state into the file *path*, and end it, with the reason ``suspended``.

        Args:
            path: Replaced as a whole, once everything of it is durable.
            key: From `state_key`, of a generation that was never used before.

        Raises:
            HostError: The state could not be written: the guest runs on, unless it has ended. Or ``disk_failed``: the
                VM has ended and a disk's root is unknown, so nothing can go on from that state; it is removed.
        """
        was_running = await self._is_running()
        try:
            await self.qmp.execute("stop")
            preamble = Preamble(self.description.vm_id, self.vtpm.certificates.keys)
            state = await write_state(self.qmp, preamble, path, key, memory_mib=self.description.memory_mib)
        except BaseException:
            await self._go_on(was_running)
            raise
        self._asked = "suspended"
        with trio.CancelScope(shield=True):
            await self.qemu.kill()
            end = await self.ended()
            if None in end.disk_roots:
                await trio.to_thread.run_sync(path.unlink)
        if None in end.disk_roots:
            raise HostError("disk_failed", "a disk was not closed; the state is of no use without it")
        return state

    async def send(
        self, streams: Streams, *, pace: Pace | None = None, on_progress: OnProgress = lambda _progress: None
    ) -> TransferSent:
        """Send it to ``open_vm(..., incoming=...)`` at the other end of *streams*, while the guest runs.

        On return the guest stands still, and all of it is there, too; the other end runs it only when it is told to,
        and must not be before this end has been told to `forget`. Until then `run` lets the guest go on here.

        Args:
            on_progress: Called now and then.

        Raises:
            HostError: It could not be sent; the guest runs on here, unless it has ended. So it does after cancellation.
        """
        if len(streams.disks) != len(self.disks):
            raise ValueError(f"{len(self.disks)} disks and {len(streams.disks)} streams for them")
        was_running = await self._is_running()
        preamble = Preamble(self.description.vm_id, self.vtpm.certificates.keys)
        try:
            return await send_vm(self.qmp, preamble, streams, pace or Pace(), on_progress)
        except BaseException:
            await self._go_on(was_running)
            raise

    async def forget(self) -> VmEnd:
        """End it at once and wipe what is in memory of it. Disks are not closed; they and the vTPM's state stay as they
        are, in case that the other node loses it."""
        self._asked = "forgotten"
        with trio.CancelScope(shield=True):
            children = (self.qemu, self.vtpm.child, *(disk.child for disk in self.disks))
            for child in children:  # all at the same time: a guest stands still at the other end
                child.send(signal.SIGKILL)
            for child in children:
                await child.kill()
            await self.ended()
        assert self._end is not None
        return self._end

    async def marks(self) -> tuple[bytes, ...]:
        """How far its vTPM and each of its disks have come; raises as `current_marks`."""
        return await current_marks(self.vtpm, self.disks)

    async def keep(self, marks: Sequence[bytes]) -> None:
        """Have the disks remember *marks*; raises as `keep_marks`."""
        await keep_marks(self.disks, marks)

    async def _is_running(self) -> bool:
        return object_of(await self.qmp.execute("query-status")).get("running") is True

    async def _go_on(self, was_running: bool) -> None:
        if was_running:
            with trio.CancelScope(shield=True), contextlib.suppress(HostError):
                await self.qmp.execute("cont")

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    async def ended(self) -> VmEnd:
        """Until it has ended."""
        await self._over.wait()
        assert self._end is not None
        return self._end

    async def supervise(self) -> None:
        """Notice the end of any of its processes, end the others, in order, and say why. Started by `open_vm`.

        Beyond cancellation: `kill` and `ended` wait for this, and the disks are to be written whatever happens.
        """
        with trio.CancelScope(shield=True):
            try:
                end = await self._supervised()
            except Exception as bug:  # who waits for the end, beyond cancellation, waits for ever otherwise
                log.exception("vm_bug", vm=self.description.name)
                for child in (self.qemu, self.vtpm.child, *(disk.child for disk in self.disks)):
                    await child.kill()
                end = VmEnd("bug", f"{type(bug).__name__}: {bug}", (None,) * len(self.disks))
        self._end = end
        self._over.set()
        log.info("vm_ended", vm=self.description.name, reason=end.reason, detail=end.detail)

    async def _supervised(self) -> VmEnd:
        oom_before = _oom_kills()
        first = await _first_to_end(
            [self.qemu, self.vtpm.child, self.keeper.child, *(disk.child for disk in self.disks)]
        )
        with trio.move_on_after(SETTLE_S):
            await self.qemu.wait()
        reason, detail = self._why(first, oom_killed=_oom_kills() > oom_before)
        await self.qemu.kill()
        roots = (None,) * len(self.disks) if self._asked == "forgotten" else await self._close_disks()
        for child in (self.vtpm.child, *(disk.child for disk in self.disks)):
            await child.kill()
        if reason == "suspended" and None in roots:
            reason, detail = "disk_failed", "a disk was not closed, so nothing can go on from the state"
        marks = tuple(disk.last_mark for disk in self.disks)
        return VmEnd(reason, detail, roots, marks, await self._vtpm_sha256(), self.vtpm.mark)

    def _why(self, first: Child, *, oom_killed: bool) -> tuple[EndReason, str]:
        if self._asked in ("killed", "suspended", "forgotten"):
            return self._asked, ""
        if self.keeper.child.status is not None:
            return "keeper_failed", _obituary(self.keeper.child)
        if self.qemu.status == 0:
            return self._asked or "powered_off", ""
        if self.keeper.is_past:
            return "time_over", ""
        return self._which_failed(first, oom_killed=oom_killed)

    def _which_failed(self, first: Child, *, oom_killed: bool) -> tuple[EndReason, str]:
        if self.qemu.signal == signal.SIGKILL:  # we have not done it yet; the others may have noticed before us
            return ("out_of_memory" if oom_killed else "killed_by_host"), ""
        # A vTPM ends well when QEMU has gone; anything else is a fault of its own.
        if self.vtpm.child.status or (self.vtpm.child is first and self.qemu.status is None):
            return "vtpm_failed", _obituary(self.vtpm.child)
        for disk in self.disks:
            if disk.child.status is not None:
                return "disk_failed", _obituary(disk.child)
        return "qemu_failed", _obituary(self.qemu)

    async def _vtpm_sha256(self) -> bytes:
        if self._asked == "forgotten":
            return b""
        try:
            return await trio.to_thread.run_sync(self.vtpm.state.settle)
        except OSError as problem:
            log.error("vtpm_state_unread", vm=self.description.name, detail=str(problem))
            return b""

    async def _close_disks(self) -> tuple[bytes | None, ...]:
        roots: list[bytes | None] = [None] * len(self.disks)

        async def close(number: int, disk: DiskProcess) -> None:
            try:
                roots[number] = await disk.close()
            except TccpError as problem:
                log.error("disk_not_closed", vm=self.description.name, disk=number, reason=problem.reason)

        async with trio.open_nursery() as nursery:
            for number, disk in enumerate(self.disks):
                nursery.start_soon(close, number, disk)
        return tuple(roots)


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
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return [Path(f"/sys/fs/cgroup{line[3:]}/memory.events") for line in lines if line.startswith("0::")]


def _counter(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # another kind of machine, or hidden from a service
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _obituary(child: Child) -> str:
    return f"{child.name} ended with {child.status}: {child.said[-300:]}"
