"""A coordinator and two nodes, each a process, whose wires can be cut and which can be held at any step.

A `Case` is a VM and the one exchange about it that is held somewhere; a bench has as many at a time as there are steps,
so that one fault strikes all of them.
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import trio

from tccp.errors import HostError, TccpError
from tccp.image.keys import RecipientSecretKey
from tccp.protocol import vm_control as v
from tccp.protocol.control import (
    CONTROL_FRAME_BYTES_MAX,
    CONTROL_ITEMS_MAX,
    Done,
    Failure,
    NodeInfo,
    ShowNode,
)
from tccp.protocol.control_roles import Answer
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import FrameReader, frame
from tccp.protocol.vm_control import AddTenant, TenantInfo
from tccp.tenant.vm_file import VmFile
from tccp.transport.trust import parse_trust
from tests.faults.daemon import GUEST, PEERS_PORT
from tests.faults.holding import Holds
from tests.faults.processes import two_run
from tests.faults.steps import Step
from tests.faults.wires import HOST, Wires, always, as_it_says
from tests.support.launching import SealedFile, Tenant, ticket_file
from tests.support.perimeter import ZERO_PCR, Daemon, Node, Perimeter
from tests.support.processes import command_lines
from tests.support.soft_tpm import EkAuthority

SOURCE, DESTINATION, COORDINATOR = "source", "destination", "coordinator"
DEADLINE_S = 60.0
LOOK_S = 0.05
LEASE_S, SHORT_LEASE_S = 60, 4
EVIDENCE_AGE_S = 3600
A = TypeVar("A", bound=msgspec.Struct)


@dataclass(slots=True, eq=False)
class Case:
    """A VM that is held at a step.

    Attributes:
        said: By the daemon that was asked for the exchange: the last state, or the reason why not.
    """

    step: Step
    vm: VmFile
    ticket: bytes
    disk: SealedFile
    said: str = ""
    part: str = ""  # which of its processes is struck
    state: str = ""  # the file of its suspended state

    def __str__(self) -> str:
        return f"{self.step}, {self.part}" if self.part else str(self.step)

    @property
    def vm_id(self) -> bytes:
        """Its id."""
        return self.vm.vm_id


@dataclass(slots=True)
class Seen:
    """What there is of a VM everywhere.

    Attributes:
        record: At the coordinator; None: it knows of none.
        shown: By each node that knows it.
        processes: On which nodes, by what the processes themselves say.
    """

    record: v.OwnedVm | None = None
    shown: dict[str, v.VmInfo] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)


class Bench:
    """Made once for many tests.

    Args:
        directory: Short.
    """

    def __init__(self, directory: Path, *, authority: EkAuthority) -> None:
        self.folder = directory
        self.perimeter = Perimeter(directory, lease_s=LEASE_S, authority=authority, evidence_age_s=EVIDENCE_AGE_S)
        to_coordinator = always(f"{HOST}:{self.perimeter.port}")
        self.wires = Wires(source=to_coordinator, destination=to_coordinator, peers=as_it_says)
        self.holds = Holds(directory)
        self._as_held(COORDINATOR, self.perimeter.coordinator)

    def __enter__(self) -> Self:
        program = self.folder / GUEST
        subprocess.run(
            ["cc", "-O1", "-Wall", "-Werror", "-o", program, Path(__file__).with_name("guest.c")], check=True
        )
        two_run(self.folder).touch()
        self.wires.__enter__()
        (self.folder / PEERS_PORT).write_text(str(self.wires.by_name["peers"].port))
        self.perimeter.__enter__()
        self.perimeter.add_policy("tvmm", {0: ZERO_PCR, 4: ZERO_PCR})
        for name in (SOURCE, DESTINATION):
            self._start_node(name)
        assert self.perimeter.keys is not None
        trust = parse_trust((self.folder / SOURCE / "trust.toml").read_bytes())
        release_key = RecipientSecretKey.from_seed(self.perimeter.keys.release_seed).public.raw
        self.tenant = Tenant(self.folder, trust.coordinator_id, release_key)
        self.perimeter.ask(AddTenant(name="acme", key=bytes(self.tenant.key.verify_key)), TenantInfo)
        self.disk = self.tenant.seal("disk", b"content")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.perimeter.__exit__(kind, value, trace)
        self.wires.__exit__(kind, value, trace)

    def _as_held(self, name: str, daemon: Daemon) -> None:
        daemon.program = [sys.executable, "-m", "tests.faults.daemon", name, str(self.folder)]

    def _start_node(self, name: str) -> Node:
        node = self.perimeter.make_node(name, vms=True)
        config = node.daemon.config
        own = f"{HOST}:{self.wires.by_name[name].port}"
        config.write_text(config.read_text().replace(f"{HOST}:{self.perimeter.port}", own))
        self._as_held("node", node.daemon)
        node.daemon.start()
        node.wait_for_state("admitted")
        return node

    def daemon(self, party: str) -> Daemon:
        """Of a party."""
        return self.perimeter.coordinator if party == COORDINATOR else self.perimeter.nodes[party].daemon

    def shorten_leases(self, nodes: Sequence[str]) -> None:
        """Of these; every other node has a fresh one that outlasts them, and lapses for no busy machine."""
        for name, node in self.perimeter.nodes.items():
            if name not in nodes:
                self.perimeter.renew(node)
        self.perimeter.shorten_leases(SHORT_LEASE_S, [self.perimeter.nodes[name] for name in nodes])

    # ---- what is asked of daemons

    def new_case(self, step: Step) -> Case:
        """A VM that nobody knows yet."""
        signed, vm = self.tenant.ticket([self.disk])
        return Case(step, vm, ticket_file(signed), self.disk)

    async def ask(self, party: str, case: Case, request: msgspec.Struct, *, until: str = "") -> None:
        """Ask for something about a VM, and write down what is said; until it is *until*, or the answer ends."""
        try:
            async with asking(self.daemon(party).control, request) as answers:
                async for answer in answers:
                    if isinstance(answer, Failure):
                        case.said = answer.reason
                    elif isinstance(answer, v.VmInfo):
                        case.said, case.state = answer.state, answer.saved or case.state
                        if until and answer.state == until:
                            return
        except (OSError, TccpError, trio.BrokenResourceError):
            case.said = "nobody answers"

    async def launch(self, case: Case) -> None:
        """At the source."""
        await self.ask(SOURCE, case, v.LaunchVm(case.ticket, (str(case.disk.path),)), until="running")

    async def receive(self, case: Case) -> None:
        """At the destination."""
        await self.ask(DESTINATION, case, v.ReceiveVm(case.ticket, (str(case.disk.path),)), until="running")

    async def resume(self, case: Case, party: str = DESTINATION) -> None:
        """There."""
        request = v.ResumeVm(case.ticket, case.state, (str(case.disk.path),))
        await self.ask(party, case, request, until="running")

    async def until_shown(self, party: str, case: Case, state: str) -> None:
        """Until a node says that the VM is in this state."""
        await self._until(party, v.ShowVm(case.vm_id), v.VmInfo, lambda info: info.state == state)

    # ---- what there is

    async def look(self, cases: Iterable[Case]) -> dict[bytes, Seen]:
        """At all of them, as the daemons and the processes say; some may be on their way from one to the other."""
        seen = {case.vm_id: Seen() for case in cases}
        for record in (await self._answer(COORDINATOR, v.ListOwnedVms(), v.OwnedVms)).vms:
            if record.vm_id in seen:
                seen[record.vm_id].record = record
        for node in (SOURCE, DESTINATION):
            for info in (await self._answer(node, v.ListVms(), v.Vms)).vms:
                if info.vm_id in seen:
                    seen[info.vm_id].shown[node] = info
        for _, vm_id, node in processes():
            if vm_id in seen:
                seen[vm_id].processes[node] = seen[vm_id].processes.get(node, 0) + 1
        return seen

    async def _answer(self, party: str, request: msgspec.Struct, kind: type[A]) -> A:
        async with asking(self.daemon(party).control, request) as answers:
            async for answer in answers:
                assert isinstance(answer, kind), answer
                return answer
        raise HostError("daemon_gone", party)

    async def _until(self, party: str, request: msgspec.Struct, kind: type[A], condition: Callable[[A], bool]) -> None:
        while not condition(await self._answer(party, request, kind)):  # noqa: ASYNC110 - another process
            await trio.sleep(LOOK_S)

    async def until_lapsed(self, node: str) -> None:
        """Until a node holds no lease any more, by the coordinator's record."""
        await self._until(COORDINATOR, ShowNode(name=node), NodeInfo, lambda info: not info.lease_id)

    async def lease_of(self, node: str) -> bytes:
        """That it holds, by the coordinator's record; empty when none."""
        return (await self._answer(COORDINATOR, ShowNode(name=node), NodeInfo)).lease_id

    def moves(self) -> set[bytes]:
        """The VMs of which the record says that they are moving."""
        with sqlite3.connect(f"file:{self.folder}/state/coordinator.db?mode=ro", uri=True) as database:
            rows = database.execute(
                "SELECT vm_id FROM vm_move JOIN vm USING (vm_id, epoch) WHERE vm.state IN ('running', 'lost')"
            )
            return {row[0] for row in rows}

    def have_two_run(self) -> bool:
        """Whether two processes have run one VM at the same time, at any time."""
        return bool(two_run(self.folder).read_bytes())

    async def clear(self) -> None:
        """Nothing is held any more, and no VM is left."""
        self.holds.release()
        for node in (SOURCE, DESTINATION):
            for info in (await self._answer(node, v.ListVms(), v.Vms)).vms:
                if info.state in {"running", "arrived"}:
                    async with asking(self.daemon(node).control, v.StopVm(info.vm_id, force=True)) as answers:
                        async for _ in answers:
                            pass


def processes(kind: str = "qemu") -> list[tuple[int, bytes, str]]:
    """Those of all VMs that stand for one kind: process id, VM, node."""
    return [
        (pid, bytes.fromhex(named[1]), words[1])
        for pid, words in command_lines()
        if len(words) == 2 and (named := re.fullmatch(f"{kind}-([0-9a-f]{{32}})", words[0]))
    ]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """To each that is there still."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Answers(AsyncIterator[object]):
    """What a daemon answers on its control socket, to the end."""

    def __init__(self, connection: trio.SocketStream) -> None:
        self._connection = connection
        self._frames = FrameReader(bytes_max=CONTROL_FRAME_BYTES_MAX)

    async def __anext__(self) -> object:
        while (payload := self._frames.next_frame()) is None:
            data = await self._connection.receive_some(65_536)
            if not data:
                raise StopAsyncIteration
            self._frames.receive_data(data)
        answer: object = decode(payload, Answer, items_max=CONTROL_ITEMS_MAX)
        if isinstance(answer, Done):
            raise StopAsyncIteration
        return answer


@asynccontextmanager
async def asking(path: Path, request: msgspec.Struct) -> AsyncIterator[Answers]:
    """Ask a daemon for something."""
    async with await trio.open_unix_socket(str(path)) as connection:
        await connection.send_all(frame(encode(request), bytes_max=CONTROL_FRAME_BYTES_MAX))
        yield Answers(connection)
