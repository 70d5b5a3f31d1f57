"""A state that comes in, from a file or from another node, on its way to QEMU.

Its preamble is read here, for it says what QEMU's stream fits; QEMU reads the rest from a descriptor.
"""

import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from tccp.errors import HostError, TccpError
from tccp.node.vm.description import VmDescription
from tccp.node.vm.migration import take_in
from tccp.node.vm.mirror import taking_disks
from tccp.node.vm.preamble import LENGTH_BYTES, Preamble, decode_preamble, preamble_length
from tccp.node.vm.qmp import Qmp
from tccp.node.vm.relay import ByteStream, relay_in, say_all_is_here, state_sockets
from tccp.node.vm.state import ResumedState, open_state


@dataclass(slots=True)
class Arrival:
    """A state on its way, made by `arrive_from_file` and `arrive_from_stream`.

    Attributes:
        descriptor: What QEMU reads from.
        disks: Streams by which its disks come along.
        taken: Called when QEMU has all of it.
    """

    descriptor: int
    disks: Sequence[ByteStream] = ()
    taken: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    _problems: list[TccpError] = field(default_factory=list)

    async def preamble(self, description: VmDescription) -> Preamble:
        """Read first of all: what follows is of the VM *description*.

        Raises:
            SealedImageError: It is not the state that was named.
            HostError: It cannot be read, or ``state_malformed``: it is no state of this VM.
        """
        length = preamble_length(await self._exactly(LENGTH_BYTES))
        preamble = decode_preamble(await self._exactly(length))
        if preamble.vm_id != description.vm_id:
            raise HostError("state_malformed", f"the state of another VM, {preamble.vm_id.hex()[:32]}")
        return preamble

    async def hand_over(self, qmp: Qmp) -> None:
        """Have QEMU take the rest in.

        Raises:
            SealedImageError: A chunk of it is not as it was sealed; QEMU has not seen it.
            HostError: Something failed, here, in QEMU or on the way.
        """
        async with taking_disks(qmp, self.disks):
            try:
                await take_in(qmp, self.descriptor)
            except HostError as problem:
                self._raise_cause()
                raise HostError("state_refused", f"QEMU did not take the state: {problem}") from problem
        await self.taken()

    def failed(self, problem: TccpError) -> None:
        """What feeds us has failed; said before the stream ends."""
        self._problems.append(problem)

    def _raise_cause(self) -> None:
        if self._problems:
            raise self._problems[0]

    async def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            await trio.lowlevel.wait_readable(self.descriptor)
            data = os.read(self.descriptor, count - len(received))
            if not data:
                self._raise_cause()
                raise HostError("state_malformed", "the state ends before it has begun")
            received += data
        return received


def arrive_from_file(state: ResumedState, nursery: trio.Nursery, stack: contextlib.AsyncExitStack) -> Arrival:
    """A suspended state, verified chunk by chunk by a thread that *nursery* waits for; our end goes with *stack*."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    stack.callback(os.close, reader)
    arrival = Arrival(reader)

    def feed() -> None:
        try:
            open_state(state, writer)
        except BrokenPipeError:
            pass  # nobody wants it any more
        except TccpError as problem:
            arrival.failed(problem)
        finally:
            os.close(writer)

    nursery.start_soon(trio.to_thread.run_sync, feed)
    return arrival


def arrive_from_stream(
    stream: ByteStream,
    disks: Sequence[ByteStream],
    nursery: trio.Nursery,
    stack: contextlib.AsyncExitStack,
) -> Arrival:
    """A state that another node sends; its frames are handed on by a task of *nursery*."""
    ours, theirs = state_sockets()
    stack.callback(theirs.close)
    arrival = Arrival(theirs.fileno(), disks, lambda: say_all_is_here(stream))

    async def feed() -> None:
        with trio.socket.from_stdlib_socket(ours) as connection:
            try:
                await relay_in(stream, connection)
            except HostError as problem:
                arrival.failed(problem)

    nursery.start_soon(feed)
    return arrival
