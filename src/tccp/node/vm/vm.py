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

import structlog
import trio

from tccp.core.image import ImageKey
from tccp.errors import HostError, TccpError
from tccp.node.vm.child import Child
from tccp.node.vm.console import Console
from tccp.node.vm.description import VmDescription
from tccp.node.vm.disk import DiskProcess
from tccp.node.vm.end import EndReason, Processes, VmEnd
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

log = structlog.get_logger()


@dataclass(slots=True)
class Vm:
    """A virtual machine, made by `open_vm`.

    Attributes:
        console_path: The socket of its console.
        has_run: Whether the guest may have run; if not, all is as it was before.
    """

    description: VmDescription
    console_path: Path
    qemu: Child
    qmp: Qmp
    console: Console
    vtpm: Vtpm
    disks: tuple[DiskProcess, ...]
    keeper: Keeper
    has_run: bool = False
    _asked: EndReason | None = None
    _end: VmEnd | None = None
    _over: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Let the guest run.

        Raises:
            HostError: ``qmp_gone``: it has ended; ``state_unwritable``.
        """
        await trio.to_thread.run_sync(self.vtpm.state.begin)
        self.has_run = True
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
            for child in self._processes.own:  # all at the same time: a guest stands still at the other end
                child.send(signal.SIGKILL)
            await self._processes.kill()
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
    def _processes(self) -> Processes:
        return Processes(self.qemu, self.vtpm.child, tuple(disk.child for disk in self.disks), self.keeper)

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
                await self._processes.kill()
                end = VmEnd("bug", f"{type(bug).__name__}: {bug}", (None,) * len(self.disks))
        self._end = end
        self._over.set()
        log.info("vm_ended", vm=self.description.name, reason=end.reason, detail=end.detail)

    async def _supervised(self) -> VmEnd:
        first = await self._processes.first_end()
        reason, detail = self._processes.why(first, self._asked)
        await self.qemu.kill()
        roots = (None,) * len(self.disks) if self._asked == "forgotten" else await self._close_disks()
        await self._processes.kill()
        if reason == "suspended" and None in roots:
            reason, detail = "disk_failed", "a disk was not closed, so nothing can go on from the state"
        marks = tuple(disk.last_mark for disk in self.disks)
        return VmEnd(reason, detail, roots, marks, await self._vtpm_sha256(), self.vtpm.mark, self.has_run)

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
