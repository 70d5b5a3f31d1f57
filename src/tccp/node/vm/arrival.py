"""A state that comes in, from a file or from another node, on its way to QEMU.

Its preamble is read here, for it says what QEMU's stream fits; QEMU reads the rest from a descriptor.
"""

import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from tccp.core.image import CancelledError, ImageProgress
from tccp.errors import HostError, TccpError
from tccp.node.vm.description import VmDescription
from tccp.node.vm.disk import DiskProcess
from tccp.node.vm.foreign import abandonable
from tccp.node.vm.marks import current_marks
from tccp.node.vm.migration import take_in
from tccp.node.vm.mirror import taking_disks
from tccp.node.vm.preamble import LENGTH_BYTES, Preamble, decode_preamble, preamble_length
from tccp.node.vm.pump import Pump, state_sockets
from tccp.node.vm.qmp import Qmp
from tccp.node.vm.state import ResumedState, open_state
from tccp.node.vm.streams import BulkStream, Streams
from tccp.node.vm.vtpm import Vtpm
from tccp.protocol.transfer import SourceWord, TransferHere, TransferSent


async def _tell_nobody(_vtpm: Vtpm, _disks: Sequence[DiskProcess]) -> None:
    """Whoever has suspended a VM is not there any more; its file is, until the VM runs."""


@dataclass(slots=True)
class Arrival:
    """A state on its way, made by `arrive_from_file` and `arrive_from_streams`.

    Attributes:
        descriptor: What QEMU reads from.
        introduced: What is said first of all.
        disks: Streams by which its disks come along.
        taken: Called when QEMU has all of it, with the vTPM and the disks that have it, too.
    """

    descriptor: int
    introduced: Callable[[], Awaitable[Preamble]]
    disks: Sequence[BulkStream] = ()
    taken: Callable[[Vtpm, Sequence[DiskProcess]], Awaitable[None]] = _tell_nobody
    _problems: list[TccpError] = field(default_factory=list)

    async def preamble(self, description: VmDescription) -> Preamble:
        """Read first of all: what follows is of the VM *description*.

        Raises:
            SealedImageError: It is not the state that was named.
            HostError: It cannot be read, or ``state_malformed``: it is no state of this VM.
        """
        try:
            preamble = await self.introduced()
        except HostError:
            self.raise_cause()
            raise
        if preamble.vm_id != description.vm_id:
            raise HostError("state_malformed", f"the state of another VM, {preamble.vm_id.hex()[:32]}")
        return preamble

    async def hand_over(self, qmp: Qmp, vtpm: Vtpm, disks: Sequence[DiskProcess]) -> None:
        """Have QEMU take the rest in.

        Raises:
            SealedImageError: A chunk of it is not as it was sealed; QEMU has not seen it.
            HostError, DiskError: Something failed, here, in QEMU or on the way.
        """
        async with taking_disks(qmp, self.disks):
            try:
                await take_in(qmp, self.descriptor)
            except HostError as problem:
                self.raise_cause()
                raise HostError("state_refused", f"QEMU did not take the state: {problem}") from problem
        await self.taken(vtpm, disks)

    def failed(self, problem: TccpError) -> None:
        """What feeds us has failed; said before the stream ends."""
        self._problems.append(problem)

    def raise_cause(self) -> None:
        """What feeds us has failed: say so."""
        if self._problems:
            raise self._problems[0]


def arrive_from_file(state: ResumedState, nursery: trio.Nursery, stack: contextlib.AsyncExitStack) -> Arrival:
    """A suspended state, verified chunk by chunk by a thread of its own; our end goes with *stack*."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    stack.callback(os.close, reader)
    arrival = Arrival(reader, lambda: _read_preamble(reader))
    progress = ImageProgress()
    there = os.fdopen(writer, "wb", buffering=0)

    def feed() -> None:
        with there:
            try:
                open_state(state, there.fileno(), progress)
            except (BrokenPipeError, CancelledError):
                pass  # nobody wants it any more
            except TccpError as problem:
                arrival.failed(problem)

    async def carry() -> None:
        try:
            await abandonable(feed)
        except trio.Cancelled:
            progress.cancel()
            raise

    nursery.start_soon(carry)
    return arrival


async def _read_preamble(descriptor: int) -> Preamble:
    length = preamble_length(await _exactly(descriptor, LENGTH_BYTES))
    return decode_preamble(await _exactly(descriptor, length))


async def _exactly(descriptor: int, count: int) -> bytes:
    received = b""
    while len(received) < count:
        await trio.lowlevel.wait_readable(descriptor)
        data = os.read(descriptor, count - len(received))
        if not data:
            raise HostError("state_malformed", "the state ends before it has begun")
        received += data
    return received


def arrive_from_streams(streams: Streams, nursery: trio.Nursery, stack: contextlib.AsyncExitStack) -> Arrival:
    """A state that another node sends; carried by tasks of *nursery*."""
    ours, theirs = state_sockets()
    stack.callback(theirs.close)
    sent = trio.Event()
    carrying = trio.CancelScope()

    async def preamble() -> Preamble:
        found = await streams.talk.preamble()
        nursery.start_soon(listen)
        return found

    async def taken(vtpm: Vtpm, disks: Sequence[DiskProcess]) -> None:
        await sent.wait()
        arrival.raise_cause()
        # Who sent it may let go of it from here on: it is here, for whatever becomes of this QEMU, of us, of the power.
        await trio.to_thread.run_sync(vtpm.state.begin)
        streams.on_here(b"".join(await current_marks(vtpm, disks)))
        await streams.talk.say(TransferHere())

    arrival = Arrival(theirs.fileno(), preamble, streams.disks, taken)

    async def carry() -> None:
        with ours, carrying:
            try:
                await Pump(streams.state, ours).run()
            except HostError as problem:
                arrival.failed(problem)

    async def listen() -> None:
        try:
            word: SourceWord | None = None
            while not isinstance(word, TransferSent):
                word = await streams.talk.hear(SourceWord)
                streams.on_word(word)
        except HostError as problem:  # who does not talk to us any more does not send, either
            arrival.failed(problem)
            carrying.cancel()
        sent.set()

    nursery.start_soon(carry)
    return arrival
