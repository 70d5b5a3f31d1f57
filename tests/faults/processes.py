"""A hypervisor whose VMs are three small processes each (`guest.c`), in the places of QEMU, a disk and a vTPM.

They are started, guarded and killed as the real ones are: by `tccp.node.vm.child`, under a keeper. What a guest has in
memory is a few bytes that begin with the epoch in which it was started; they go where it goes.
"""

import contextlib
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tccp.config import VmsConfig
from tccp.core.child import ChildSpec
from tccp.errors import HostError
from tccp.node.hypervisor import SavedState, VmOutcome
from tccp.node.identity import NodeIdentity
from tccp.node.launch import VmOrder, root_of_state
from tccp.node.vm.alone import alone, together
from tccp.node.vm.child import Child, start
from tccp.node.vm.keeper import Keeper, open_keeper
from tccp.node.vm.streams import Streams
from tccp.node.vm.talk import BROKEN, ByteStream
from tccp.protocol.ticket import Ticket
from tccp.protocol.transfer import DestinationWord, SourceWord, TransferHere, TransferProgress, TransferSent
from tests.faults.holding import Holds
from tests.image.images import open_bytes, seal_bytes
from tests.support.live_node import PAPER, paper_mark

PARTS = ("qemu", "disk", "vtpm")
WORD_S = 30.0  # a process that says nothing for so long hangs
MEMORY_BYTES = 64
FILLER, FILLER_S = b"\0", 0.5
SENT = TransferSent(state_bytes=MEMORY_BYTES, disk_bytes=4, total_ms=1, still_ms=1)


class Part:
    """One of the processes of a VM."""

    def __init__(self, child: Child, control: socket.socket) -> None:
        self.child = child
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(control))
        self._telling = trio.Lock()
        self._unheard = 0  # answers to words whose speaker was cancelled before they came

    async def tell(self, word: bytes) -> None:
        """Say it, and wait for the answer.

        Raises:
            HostError: There is none; or somebody else runs this VM.
        """
        answer = b""
        try:
            with trio.fail_after(WORD_S):
                async with self._telling:
                    await self._stream.send_all(word)
                    self._unheard += 1
                    while self._unheard:
                        answer = bytes(await self._stream.receive_some(1))
                        self._unheard -= 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except trio.TooSlowError:
            raise HostError("part_hangs", self.child.name) from None
        if answer != word:
            raise HostError("part_gone" if not answer else "two_run", f"{self.child.name}: {self.child.status}")


class ProcessVm:
    """Three processes, paused until `run`."""

    ek_certificate = b""

    def __init__(self, vm_id: bytes, memory: bytes, parts: dict[str, Part], holds: Holds, state: Path) -> None:
        self.vm_id, self.memory, self.parts, self.holds, self.state = vm_id, memory, parts, holds, state
        self.outcome: VmOutcome | None = None
        self.has_run = False
        self._asked = ""
        self._over = trio.Event()

    @property
    def console(self) -> str:
        """What it has in memory, for whoever looks from outside."""
        return self.memory.decode()

    async def run(self) -> None:
        self.has_run = True
        await self.holds.pass_by(self.vm_id, "going")
        await self.parts["qemu"].tell(b"r")

    async def shut_down(self) -> None:
        self._asked = "shut_down"
        await self._kill_all()

    async def kill(self) -> None:
        self._asked = "killed"
        await self._kill_all()

    async def marks(self) -> bytes:
        await self.parts["disk"].tell(b"m")
        return paper_mark(0)

    async def keep(self, marks: bytes) -> None:
        await self.parts["disk"].tell(b"k")

    async def suspend(self) -> SavedState:
        await self.parts["qemu"].tell(b"p")
        try:
            await self.holds.pass_by(self.vm_id, "sealing")
            await self.parts["vtpm"].tell(b"s")
            seal_bytes(self.state, self.memory, PAPER.public)
            await self.parts["disk"].tell(b"s")
        except HostError:
            with contextlib.suppress(HostError):
                await self.parts["qemu"].tell(b"r")
            raise
        self._asked = "suspended"
        await self._kill_all()
        return SavedState(self.state, root_of_state(self.state), self.state.stat().st_size)

    async def send(self, streams: Streams, on_progress: Callable[[TransferProgress], None]) -> TransferSent:
        try:
            async with together() as begin:
                begin(streams.talk.hear, DestinationWord)
                for disk in streams.disks:
                    await self.parts["disk"].tell(b"s")
                    await disk.send_all(b"disk")
                await self._send_slowly(streams.state)
                await self.parts["vtpm"].tell(b"s")
                await self.parts["qemu"].tell(b"p")
                await streams.state.send_all(self.memory.ljust(MEMORY_BYTES))
                await streams.talk.say(SENT)
        except BROKEN:
            raise HostError("stream_broken", "the destination has gone") from None
        return SENT

    async def _send_slowly(self, stream: ByteStream) -> None:
        """A guest that has much to send says something all the time."""

        async def send() -> None:
            while True:
                await stream.send_all(FILLER)
                await trio.sleep(FILLER_S)

        with alone():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await self.holds.pass_by(self.vm_id, "sending")
                nursery.cancel_scope.cancel()

    async def forget(self) -> None:
        await self.holds.pass_by(self.vm_id, "sent")
        self._asked = "forgotten"
        await self._kill_all()
        await self.holds.pass_by(self.vm_id, "forgotten")

    async def ended(self) -> VmOutcome:
        await self._over.wait()
        assert self.outcome is not None
        return self.outcome

    async def supervise(self) -> None:
        """The end of one is the end of all."""
        first: list[str] = []

        async def watch(name: str, child: Child) -> None:
            await child.wait()
            first.append(name)
            nursery.cancel_scope.cancel()

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for name, part in self.parts.items():
                    nursery.start_soon(watch, name, part.child)
            await self._kill_all()
            status = self.parts[first[0]].child.status
            self.outcome = VmOutcome(self._asked or f"{first[0]}_failed", f"it ended with {status}")
            self._over.set()

    async def _kill_all(self) -> None:
        for part in self.parts.values():
            await part.child.kill()


class ProcessHypervisor:
    """Starts them.

    Args:
        program: `guest.c`, compiled.
        folder: For the locks of all hosts, and the states of this one.
    """

    def __init__(self, program: int, folder: Path, node: str, keeper: Keeper, holds: Holds) -> None:
        self._program, self._folder, self._node, self._keeper, self._holds = program, folder, node, keeper, holds

    def check(self, ticket: Ticket) -> None:
        """All of them can be had."""

    async def allow_until(self, deadline: float) -> None:
        await self._keeper.allow_until(deadline)

    @asynccontextmanager
    async def open(self, order: VmOrder) -> AsyncGenerator[ProcessVm]:
        vm_id = order.ticket.ticket.vm_id
        await self._holds.pass_by(vm_id, "opening")
        if (self._folder / f"full-{self._node}-{vm_id.hex()}").exists():
            raise HostError("disk_full", "no space is left on this host")
        state = self._folder / f"{self._node}-{vm_id.hex()}-{order.keys.epoch}.state"
        memory = f"{order.keys.epoch} {vm_id.hex()}".encode()
        if order.state is not None:
            assert root_of_state(order.state) == order.keys.state_root
            memory = open_bytes(order.state, PAPER)
        parts: dict[str, Part] = {}
        with alone(), contextlib.ExitStack() as stack:
            async with trio.open_nursery() as nursery:
                try:
                    for name in PARTS:
                        parts[name] = await self._start(name, vm_id, nursery, stack)
                    if order.incoming is not None:
                        memory = await _receive(order.incoming, parts)
                    vm = ProcessVm(vm_id, memory, parts, self._holds, state)
                    nursery.start_soon(vm.supervise)
                    yield vm
                finally:
                    with trio.CancelScope(shield=True):
                        for part in parts.values():
                            await part.child.kill()

    async def destroy(self, vm_id: bytes) -> None:
        await self._holds.pass_by(vm_id, "erasing")
        for path in self._folder.glob(f"{self._node}-{vm_id.hex()}-*.state"):
            path.unlink()

    async def discard(self, vm_id: bytes) -> bool:
        await self.destroy(vm_id)
        return False

    async def _start(self, name: str, vm_id: bytes, nursery: trio.Nursery, stack: contextlib.ExitStack) -> Part:
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        with theirs, (self._folder / f"{vm_id.hex()}.lock").open("a") as lock, two_run(self._folder).open("a") as two:
            descriptors = [theirs.fileno(), lock.fileno(), two.fileno()]
            spec = ChildSpec(
                self._program,
                [f"{name}-{vm_id.hex()}", self._node],
                output=-1,
                descriptors=descriptors,
                file_bytes_max=1 << 16,
            )
            return Part(await start(name, spec, nursery, self._keeper.guard), ours)


def two_run(folder: Path) -> Path:
    """Where it is written down that two have run."""
    return folder / "two"


async def _receive(streams: Streams, parts: Mapping[str, Part]) -> bytes:
    received = b""
    try:
        for disk in streams.disks:
            if await disk.receive_some(4) != b"disk":
                raise HostError("stream_broken", "no disk comes")
        while len(received) < MEMORY_BYTES:
            more = await streams.state.receive_some(65_536)
            if not more:
                raise HostError("stream_broken", "the source has gone")
            received += more.replace(FILLER, b"")
        streams.on_word(await streams.talk.hear(SourceWord))
        for part in parts.values():  # each has to take it
            await part.tell(b"t")
        await parts["disk"].tell(b"m")
        streams.on_here(paper_mark(0))
        await streams.talk.say(TransferHere())
    except BROKEN:
        raise HostError("stream_broken", "the source has gone") from None
    return received.rstrip()


def opening(program: Path, folder: Path, holds: Holds) -> Callable[..., object]:
    """What stands in the place of `open_qemu_hypervisor`."""

    @asynccontextmanager
    async def open_process_hypervisor(config: VmsConfig, identity: NodeIdentity) -> AsyncIterator[ProcessHypervisor]:
        python = os.open(sys.executable, os.O_PATH | os.O_CLOEXEC)
        guest = os.open(program, os.O_PATH | os.O_CLOEXEC)
        try:
            async with trio.open_nursery() as nursery, open_keeper(python, nursery) as keeper:
                yield ProcessHypervisor(guest, folder, identity.name, keeper, holds)
                nursery.cancel_scope.cancel()
        finally:
            os.close(python)
            os.close(guest)

    return open_process_hypervisor
