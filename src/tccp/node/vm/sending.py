"""Sending a running guest to another node: disks and memory while it runs; it stands still for the last of it only."""

import contextlib
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from tccp.errors import HostError
from tccp.node.vm.alone import alone, together
from tccp.node.vm.migration import Pace, query, send_out
from tccp.node.vm.mirror import Mirrors, mirroring
from tccp.node.vm.preamble import Preamble
from tccp.node.vm.pump import Pump, state_sockets
from tccp.node.vm.qmp import Qmp
from tccp.node.vm.streams import Streams
from tccp.protocol.transfer import DestinationWord, TransferProgress, TransferSent

PROGRESS_S = 0.2
STILL_S = 60.0

OnProgress = Callable[[TransferProgress], None]


async def send_vm(
    qmp: Qmp, preamble: Preamble, streams: Streams, pace: Pace, on_progress: OnProgress = lambda _progress: None
) -> TransferSent:
    """Returns when all of the guest is at the other end, too; it stands still then.

    Args:
        on_progress: Called now and then; the other end is told as well.

    Raises:
        HostError: Something failed: the guest has not stood still, or can go on by ``cont``.
    """
    with trio.CancelScope() as patience:
        sending = _Sending(qmp, streams, pace, on_progress, patience)
        await streams.talk.introduce(preamble)
        async with together() as begin:
            begin(sending.listen)
            with alone():
                async with trio.open_nursery() as beside:
                    beside.start_soon(sending.report)
                    beside.start_soon(sending.note_stops)
                    sent = await sending.send(begin)
                    beside.cancel_scope.cancel()
            await sending.here.wait()
        return sent
    raise HostError("peer_slow", f"the guest stood still for {STILL_S:.0f} s, and not all of it is at the other node")


@dataclass(slots=True)
class _Sending:
    """A guest that is being sent."""

    qmp: Qmp
    streams: Streams
    pace: Pace
    on_progress: OnProgress
    patience: trio.CancelScope
    here: trio.Event = field(default_factory=trio.Event)
    began_at: float = field(default_factory=time.monotonic)
    stopped_at: float | None = None
    mirrors: Mirrors | None = None
    state: Pump | None = None

    async def send(self, begin: Callable[..., None]) -> TransferSent:
        """Disks, then memory, then the rest of both; all of it is on its way on return, and the other end knows."""
        async with mirroring(self.qmp, self.streams.disks, begin) as self.mirrors:
            finish = self.mirrors.finish if self.streams.disks else None
            ours, theirs = state_sockets()
            with theirs:  # QEMU gets a copy, and is to have the only one
                self.state = Pump(self.streams.state, ours)
                carried = trio.Event()
                begin(self._carry, ours, carried)
                await send_out(self.qmp, theirs.fileno(), self.pace, standing_still=finish)
            await carried.wait()
            now = time.monotonic()
            sent = TransferSent(
                state_bytes=self.state.sent_bytes,
                disk_bytes=self.mirrors.sent_bytes,
                total_ms=_ms(now - self.began_at),
                still_ms=_ms(now - (self.stopped_at or now)),
            )
            await self.streams.talk.say(sent)
        return sent

    async def _carry(self, ours: socket.socket, carried: trio.Event) -> None:
        assert self.state is not None
        with ours:  # closed by nobody else: a thread works with it until the pump has ended
            await self.state.run()
        carried.set()

    async def listen(self) -> None:
        """Until the other end says that all is there."""
        await self.streams.talk.hear(DestinationWord)
        self.here.set()

    async def note_stops(self) -> None:
        """Of the guest, by QEMU, of which the last counts. A peer that takes the rest of it a byte at a time is never
        silent."""
        with self.qmp.listening("STOP", "RESUME") as changes:
            async for change in changes:
                stands = change.name == "STOP"
                self.stopped_at = time.monotonic() if stands else None
                self.patience.deadline = trio.current_time() + STILL_S if stands else math.inf

    async def report(self) -> None:
        """Tell how far it is."""
        before, at = 0, time.monotonic()
        with contextlib.suppress(HostError):  # whoever sends learns of it
            while True:
                await trio.sleep(PROGRESS_S)
                disk_left, disk_bytes = await self.mirrors.left() if self.mirrors else (0, 0)
                memory = await query(self.qmp)
                sent = (self.mirrors.sent_bytes if self.mirrors else 0) + (self.state.sent_bytes if self.state else 0)
                now = time.monotonic()
                progress = TransferProgress(
                    disk_bytes=disk_bytes,
                    disk_left_bytes=disk_left,
                    memory_bytes=memory.memory_bytes,
                    memory_left_bytes=memory.left_bytes,
                    sent_bytes=sent,
                    bytes_per_s=int((sent - before) / (now - at)),
                    rounds=memory.rounds,
                )
                before, at = sent, now
                self.on_progress(progress)
                await self.streams.talk.say(progress)


def _ms(seconds: float) -> int:
    return int(1000 * seconds)
