"""A node in this very process, whole but for the hypervisor: the daemon's own `Node`, a control socket, a soft TPM.

`PaperHypervisor` runs no machine. It opens every image with the keys that it is given, which shows that they are the
right ones, and keeps its "VM" until it is told otherwise.
"""

import datetime as dt
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from tccp.config import NodeConfig
from tccp.control.server import ControlGroups, serve_control
from tccp.control.sockets import control_listeners
from tccp.errors import HostError, LaunchError
from tccp.image.keys import RecipientSecretKey
from tccp.image.sealed import open_image
from tccp.node.control import NodeAnswers
from tccp.node.daemon import Node
from tccp.node.hypervisor import Hypervisor, SavedState, VmOutcome
from tccp.node.identity import NodeIdentity, make_node_identity
from tccp.node.launch import VmOrder, root_of_state
from tccp.node.registration import NodeTpm
from tccp.node.vm.alone import together
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.streams import Streams
from tccp.protocol import vm_control as v
from tccp.protocol.control_roles import NodeRequest
from tccp.protocol.ticket import Ticket
from tccp.protocol.transfer import DestinationWord, SourceWord, TransferHere, TransferProgress, TransferSent
from tccp.transport.certificates import fresh_key, spki_of_key
from tccp.transport.errors import PeerGoneError
from tests.image.images import open_bytes, seal_bytes
from tests.support.live_coordinator import DEADLINE_S, HOST, LiveCoordinator, ask_control

COMING = b"what comes"
PAPER = RecipientSecretKey.from_seed(bytes(32))  # opens every suspended state of paper
A = TypeVar("A", bound=msgspec.Struct)


def paper_mark(written: int) -> bytes:
    """The mark of a disk in which as much was written."""
    return written.to_bytes(8, "little") + hashlib.sha256(bytes([written])).digest()


class PaperVm:
    """A VM that does nothing."""

    def __init__(self, order: VmOrder, contents: list[bytes], ek_certificate: bytes, state_file: Path) -> None:
        self.order, self.contents = order, contents
        self.memory = b"memory"  # what a suspended state keeps
        self.state_file = state_file
        self.problem: Exception | None = None
        self.mark_problem: Exception | None = None  # once
        self.may_forget: trio.Event | None = None
        self.may_send: trio.Event | None = None
        self.disks_problem = ""  # for which no copies of its disks are kept
        self.console = ""
        self.ek_certificate = ek_certificate
        self.is_running = self.has_run = False
        self.run_problem: Exception | None = None  # before the guest has run
        self.written = 0  # how far its disk has come
        self.kept: list[bytes] = []
        self.wishes: list[str] = []
        self.outcome: VmOutcome | None = None
        self._end = trio.Event()

    async def run(self) -> None:
        """The guest begins."""
        if self.run_problem is not None:
            raise self.run_problem
        self.is_running = self.has_run = True

    async def shut_down(self) -> None:
        """The guest obeys."""
        self.end("shut_down")

    async def kill(self) -> None:
        """The plug is pulled."""
        self.end("killed")

    def end(self, reason: str) -> None:
        """The guest has ended by itself."""
        self.outcome = VmOutcome(reason)
        self._end.set()

    async def marks(self) -> bytes:
        """As a disk has them."""
        if self.outcome is not None:
            raise HostError("disk_process_died", "torn")
        if (problem := self.mark_problem) is not None:
            self.mark_problem = None
            raise problem
        return paper_mark(self.written)

    async def keep(self, marks: bytes) -> None:
        """Remember."""
        self.kept.append(marks)

    async def suspend(self) -> SavedState:
        """Keep what it has in memory."""
        if self.problem is not None:
            raise self.problem
        seal_bytes(self.state_file, self.memory, PAPER.public)
        self.end("suspended")
        size = self.state_file.stat().st_size
        return SavedState(self.state_file, root_of_state(self.state_file), size, self.disks_problem)

    async def send(self, streams: Streams, on_progress: Callable[[TransferProgress], None]) -> TransferSent:
        """Its disks and its memory, and wait until that is there."""
        if self.problem is not None:
            raise self.problem
        progress = TransferProgress(1000, 400, 2000, 500, sent_bytes=1500, bytes_per_s=100, rounds=2)
        sent = TransferSent(state_bytes=2500, disk_bytes=600, total_ms=30, still_ms=7)
        try:
            async with together() as begin:
                begin(streams.talk.hear, DestinationWord)
                for disk in streams.disks:
                    await disk.send_all(b"disk")
                on_progress(progress)
                await streams.talk.say(progress)
                if self.may_send is not None:
                    await self.may_send.wait()
                await streams.state.send_all(len(self.memory).to_bytes(4, "big") + self.memory)
                self.is_running = False
                await streams.talk.say(sent)
        except PeerGoneError:
            raise HostError("stream_broken", "the destination has gone") from None
        if self.may_forget is not None:
            await self.may_forget.wait()
        return sent

    async def forget(self) -> None:
        """It is elsewhere."""
        self.is_running = False
        self.end("forgotten")

    async def ended(self) -> VmOutcome:
        """Wait for it."""
        await self._end.wait()
        assert self.outcome is not None
        return self.outcome


class PaperHypervisor:
    """Opens images, and starts nothing."""

    may_destroy: trio.Event | None = None

    def __init__(self, folder: Path, identity: NodeIdentity) -> None:
        self.folder = folder
        self.issuer = VtpmIssuer(identity.name, identity.signing_key, identity.statement)
        self.vms: list[PaperVm] = []
        self.problem: Exception | None = None
        self.run_problem: Exception | None = None
        self.may_open: trio.Event | None = None
        self.deadline = 0.0

    def check(self, ticket: Ticket) -> None:
        """There are no networks on paper."""
        if ticket.shape.networks:
            raise LaunchError("shape_unsupported", "no networks")

    async def allow_until(self, deadline: float) -> None:
        """Remember it."""
        self.deadline = deadline

    @asynccontextmanager
    async def open(self, order: VmOrder) -> AsyncIterator[PaperVm]:
        """A VM of paper."""
        if self.problem is not None:
            raise self.problem
        if self.may_open is not None:
            await self.may_open.wait()
        contents = [self._read(order, number) for number in range(len(order.images))]
        vm_id = order.ticket.ticket.vm_id
        state_file = self.folder / f"{self.issuer.node}-{vm_id.hex()}-{order.keys.epoch}.state"
        vm = PaperVm(order, contents, self.certify(order), state_file)
        if order.state is not None:
            assert root_of_state(order.state) == order.keys.state_root
            vm.memory = open_bytes(order.state, PAPER)
        if order.incoming is not None:
            (self.folder / f"{self.issuer.node}-{vm_id.hex()}-{order.keys.epoch}.state").write_bytes(COMING)
            vm.memory = await _receive(order.incoming, vm)
        vm.run_problem = self.run_problem
        self.vms.append(vm)
        try:
            yield vm
        finally:
            vm.is_running = False

    async def destroy(self, vm_id: bytes) -> None:
        """Tear it up."""
        if self.problem is not None:
            raise self.problem
        if self.may_destroy is not None:
            await self.may_destroy.wait()
        for path in self.folder.glob(f"{self.issuer.node}-{vm_id.hex()}-*.state"):
            path.unlink()

    async def discard(self, vm_id: bytes) -> bool:
        """Tear up what was coming."""
        if self.problem is not None:
            raise self.problem
        states = list(self.folder.glob(f"{self.issuer.node}-{vm_id.hex()}-*.state"))
        coming = [path for path in states if path.read_bytes() == COMING]
        for path in coming:
            path.unlink()
        return len(states) > len(coming)

    def certify(self, order: VmOrder) -> bytes:
        """A certificate for the EK of a vTPM, as if there were one."""
        ticket = order.ticket.ticket
        claim = self.issuer.claim(ticket.vm_id, tuple((image.role, image.root) for image in ticket.images))
        return self.issuer.certify("ek", spki_of_key(fresh_key()), claim, now=dt.datetime.now(tz=dt.UTC))

    def _read(self, order: VmOrder, number: int) -> bytes:
        out = self.folder / f"opened-{len(self.vms)}-{number}"
        descriptor = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            open_image(order.images[number].sealed, descriptor, order.images[number].key)
            return out.read_bytes()
        finally:
            os.close(descriptor)
            out.unlink()


async def _receive(streams: Streams, vm: PaperVm) -> bytes:
    try:
        if [await disk.receive_some(4) for disk in streams.disks] != [b"disk"]:
            raise HostError("stream_broken", "the source has gone")
        word: SourceWord | None = None
        while not isinstance(word, TransferSent):
            word = await streams.talk.hear(SourceWord)
            streams.on_word(word)
        received = b""
        while len(received) < 4 or len(received) < 4 + int.from_bytes(received[:4], "big"):
            received += await streams.state.receive_some(65_536)
    except PeerGoneError:
        raise HostError("stream_broken", "the source has gone") from None
    streams.on_here(await vm.marks())
    await streams.talk.say(TransferHere())
    return received[4:]


def is_under_way(info: v.VmInfo) -> bool:
    """Whether something of the VM has been sent."""
    return info.transfer is not None and info.transfer.sent_bytes > 0


class LiveNode:
    """A running node; made by `live_node`."""

    def __init__(self, node: Node, hypervisor: PaperHypervisor, control: Path) -> None:
        self.node, self.hypervisor, self.control = node, hypervisor, control

    async def launch(self, ticket: bytes, *images: Path) -> v.VmInfo:
        """Launch, and say what it has come to: running, ended or failed."""
        vm = self.node.vms.launch(ticket, images)
        return await self.until(vm.vm_id, "running", "ended", "failed")

    async def resume(self, ticket: bytes, state: Path, *images: Path) -> v.VmInfo:
        """Resume, and say what it has come to."""
        vm = self.node.vms.resume(ticket, state, images)
        return await self.until(vm.vm_id, "running", "ended", "failed")

    async def receive(self, ticket: bytes, *images: Path) -> v.VmInfo:
        """Take over, and say what it has come to."""
        vm = self.node.vms.receive(ticket, images)
        return await self.until(vm.vm_id, "running", "ended", "failed")

    async def suspend(self, vm_id: bytes) -> v.VmInfo:
        """Suspend, and say what it has come to."""
        self.node.vms.suspend(self.node.vms.get(vm_id))
        return await self.until(vm_id, "suspended", "running", "ended", "failed")

    async def until(self, vm_id: bytes, *states: str) -> v.VmInfo:
        """Until the VM is in one of these states."""
        with trio.fail_after(DEADLINE_S):
            async for info in self.node.vms.steps(self.node.vms.get(vm_id)):
                if info.state in states:
                    return info
        raise AssertionError(f"never {states}")

    async def until_told(self, vm_id: bytes, wanted: Callable[[v.VmInfo], bool]) -> v.VmInfo:
        """The first that is shown of the VM and is *wanted*."""
        with trio.fail_after(DEADLINE_S):
            async for info in self.node.vms.changes():
                if info.vm_id == vm_id and wanted(info):
                    return info
        raise AssertionError("never")

    async def ask(self, request: msgspec.Struct, answer: type[A]) -> A:
        """One request on the control socket."""
        return await ask_control(self.control, request, answer)


@asynccontextmanager
async def live_node(
    coordinator: LiveCoordinator, name: str, host: NodeTpm, folder: Path, *, move_address: str | None = HOST
) -> AsyncIterator[LiveNode]:
    """Run a node, enrolled before; admitted when this is entered."""
    identity = make_node_identity(name)
    hypervisor = PaperHypervisor(folder, identity)
    running = running_node(coordinator, identity, host, hypervisor, folder, move_address=move_address)
    async with running as node:
        yield LiveNode(node, hypervisor, control_of(folder, name))


def control_of(folder: Path, name: str) -> Path:
    """The control socket of a node."""
    return folder / f"{name}.sock"


@asynccontextmanager
async def running_node(
    coordinator: LiveCoordinator,
    identity: NodeIdentity,
    host: NodeTpm,
    hypervisor: Hypervisor,
    folder: Path,
    *,
    move_address: str | None = HOST,
    port: int | None = None,
) -> AsyncIterator[Node]:
    """Run a node over whichever hypervisor; admitted when this is entered.

    Args:
        port: Where it finds the coordinator, if not at the coordinator's own.
    """
    control = control_of(folder, identity.name)
    address = f"{HOST}:{port or coordinator.port}"
    config = {
        "name": identity.name,
        "coordinator": {"address": address, "trust_file": "/t"},
        "control": {"socket": str(control)},
        "vms": {"move_address": move_address, "mark_every_s": 1, "state": str(folder / f"{identity.name}-vms")},
    }
    node = Node(
        config=msgspec.convert(config, NodeConfig),
        trust=coordinator.trust,
        identity=identity,
        host=host,
        tpm_name="",
        started_ms=0,
        hypervisor=hypervisor,
    )
    async with control_listeners(control, None) as listeners, trio.open_nursery() as nursery:
        answers = NodeAnswers(node.status, node.vms)

        async def serve() -> None:
            await serve_control(listeners, NodeRequest, answers, own_uid=os.getuid(), groups=ControlGroups())

        nursery.start_soon(node.vms.run)
        nursery.start_soon(node.stay_registered)
        nursery.start_soon(serve)
        with trio.fail_after(DEADLINE_S):
            while node.state != "admitted":  # noqa: ASYNC110 a daemon has no event for its tests
                await trio.sleep(0.01)
        yield node
        nursery.cancel_scope.cancel()
