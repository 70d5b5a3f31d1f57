"""What is said of moves: each answer is of one move, whoever waits is in nobody's way, and an outage costs no VM."""

from typing import Any, cast

import pytest
import trio
import trio.testing

from tccp.coordinator.sessions import NodeSession
from tccp.errors import HostError
from tccp.image.keys import RecipientSecretKey
from tccp.model import NodeName
from tccp.node.identity import NodeIdentity
from tccp.node.key_desk import KeyDesk
from tccp.node.registration import register
from tccp.protocol import control as c
from tccp.protocol.messages import (
    MoveArrived,
    MoveGo,
    MoveOrder,
    MoveStayed,
    VmEnded,
    VmReportRecorded,
    VmReportRefused,
)
from tccp.store import LeaseRecord
from tests.node.running import Running, record_of
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode, PaperVm, is_under_way

VM, FIRST, SECOND = bytes(16), b"1" * 32, b"2" * 32


class Line:
    """A connection that takes everything at once."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def push(self) -> bool:
        return True

    def send_nowait(self, message: object) -> bool:
        self.said.append(message)
        return True


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
async def desk(line: Line) -> KeyDesk:
    """Of an admitted node."""
    desk = KeyDesk(RecipientSecretKey.from_seed(bytes(32)))
    desk.attach(cast("Any", line))
    return desk


# ---- at the node's desk


async def test_a_late_answer_about_one_move_does_not_settle_what_was_said_of_the_next(
    desk: KeyDesk, line: Line
) -> None:
    """Else the coordinator would take the second for under way for ever, and the VM could not be moved any more."""
    desk.report(MoveStayed(VM, 1, FIRST, "unreachable"))
    desk.report(MoveStayed(VM, 1, SECOND, "unreachable"))
    assert [said.move_id for said in line.said] == [FIRST, SECOND]

    desk.take(VmReportRecorded("move_stayed", VM, 1, FIRST), bytes(16))

    again = Line()
    desk.attach(cast("Any", again))  # what has no answer is said again
    assert [said.move_id for said in again.said] == [SECOND]


async def test_a_late_refusal_of_one_move_does_not_end_the_next(desk: KeyDesk, line: Line) -> None:
    """Else the destination would let go what its source has wiped for it."""
    answers: list[object] = []

    async def arrive(move_id: bytes) -> None:
        answers.append(await desk.recorded(MoveArrived(VM, 2, move_id, b"")))

    go = MoveGo(VM, 2, SECOND, b"receipt")
    async with trio.open_nursery() as nursery:
        desk.report(MoveArrived(VM, 2, FIRST, b""))  # it was given up here
        nursery.start_soon(arrive, SECOND)
        await trio.testing.wait_all_tasks_blocked()
        assert line.said[-1].move_id == SECOND

        desk.take(VmReportRefused("move_arrived", VM, 2, "move_over", FIRST), bytes(16))
        await trio.testing.wait_all_tasks_blocked()
        assert not answers
        desk.take(go, bytes(16))

    assert answers == [go]


async def test_arrivals_that_wait_for_their_sources_are_not_in_the_way_of_all_else(desk: KeyDesk, line: Line) -> None:
    """A source that stands still would keep its destination from telling anything of its other VMs."""
    for number in range(100):
        desk.report(MoveArrived(bytes([number]) * 16, 2, FIRST, b""))

    desk.report(VmEnded(VM, 7, b"", b"", "shut_down"))

    assert len(line.said) == 101
    assert isinstance(line.said[-1], VmEnded)


# ---- at the coordinator


def session_of(coordinator: LiveCoordinator, name: str) -> NodeSession | None:
    return coordinator.services.sessions.get(NodeName(name))


async def test_what_waits_may_be_said_again_and_again(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is once a minute. Each time it was one request more that waited, until the node was cut off for it."""
    alpha.hypervisor.vms[0].may_forget = trio.Event()
    vm = beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until(vm.vm_id, "arrived")
    before = session_of(coordinator, "beta")
    with monkeypatch.context() as patched:
        patched.setattr("tccp.node.key_desk.ASK_AGAIN_S", 0.0)
        for _ in range(20):
            beta.node.desk.say()
    await trio.testing.wait_all_tasks_blocked(0.05)

    assert session_of(coordinator, "beta") is before is not None
    assert ([type(said) for said in before.working_on], before.ended) == ([MoveArrived], False)
    alpha.hypervisor.vms[0].may_forget.set()
    assert (await beta.until(vm.vm_id, "running")).epoch == 2


class Outage:
    """beta cannot register, while all that is said of a move goes past it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = trio.Event()
        monkeypatch.setattr("tccp.node.daemon.register", self._register)

    async def _register(self, connection: Any, host: Any, identity: NodeIdentity, *others: Any) -> Any:
        if identity.name == "beta":
            await self.over.wait()
        return await register(connection, host, identity, *others)


async def sent_without_a_word_of_beta(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, *, leaves: bool
) -> None:
    """alpha has wiped the VM and said so; beta has all of it and could not say so."""
    alpha.hypervisor.vms[0].may_send = trio.Event()
    beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until_told(running.vm.vm_id, is_under_way)
    beta.node.desk.detach()
    session = session_of(coordinator, "beta")
    assert session is not None
    if leaves:
        session.scope.cancel()
        with trio.fail_after(DEADLINE_S):
            await session.closed.wait()
    alpha.hypervisor.vms[0].may_send.set()
    await alpha.until(running.vm.vm_id, "recording")


async def test_a_destination_that_is_away_has_the_time_of_its_lease_to_say_that_all_is_there(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage, looks, looked_twice = Outage(monkeypatch), [], trio.Event()
    open_lease = coordinator.services.store.open_lease

    async def look(name: NodeName) -> LeaseRecord | None:
        looks.append(name)
        if looks.count(NodeName("beta")) == 2:
            looked_twice.set()
        return await open_lease(name)

    with monkeypatch.context() as patched:
        patched.setattr("tccp.coordinator.moving.ARRIVED_S", 0.0)
        patched.setattr("tccp.coordinator.moving.LOOK_S", 0.01)
        await sent_without_a_word_of_beta(coordinator, alpha, beta, running, leaves=True)
        patched.setattr(coordinator.services.store, "open_lease", look)
        with trio.fail_after(DEADLINE_S):
            await looked_twice.wait()
        assert alpha.node.vms.get(running.vm.vm_id).state == "recording"

    outage.over.set()

    assert (await beta.until(running.vm.vm_id, "running")).epoch == 2
    assert (await alpha.until(running.vm.vm_id, "moved")).reason == "moved"


@pytest.mark.parametrize("leaves", [True, False])
async def test_but_not_one_that_is_there_and_does_not_say_so_or_is_out(
    coordinator: LiveCoordinator,
    alpha: LiveNode,
    beta: LiveNode,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    *,
    leaves: bool,
) -> None:
    Outage(monkeypatch)
    monkeypatch.setattr("tccp.coordinator.moving.ARRIVED_S", 0.0)
    monkeypatch.setattr("tccp.coordinator.moving.LOOK_S", 0.01)

    await sent_without_a_word_of_beta(coordinator, alpha, beta, running, leaves=leaves)
    if leaves:
        await coordinator.ask(c.RevokeNode(name="beta", reason="sold"), c.NodeInfo)

    assert (await alpha.until(running.vm.vm_id, "failed")).reason == "destination_lost"
    assert (await record_of(coordinator, running)).state == "ended"


async def test_a_stranger_who_comes_when_the_lease_is_gone_is_sent_away(beta: LiveNode) -> None:
    beta.node.lease.drop()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.open_tcp_stream(*listener.socket.getsockname()) as stranger:
        with pytest.raises(HostError, match="not_admitted"):
            beta.node.vms._peers.secured(await listener.accept(), to=None)
        assert await stranger.receive_some(1) == b""


async def test_a_source_that_is_reminded_of_a_move_while_its_guest_is_asked_to_stop_does_not_give_it_up(
    alpha: LiveNode, beta: LiveNode, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wipe what it had said to keep."""

    async def take_time(_vm: PaperVm) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(PaperVm, "shut_down", take_time)
    alpha.hypervisor.vms[0].may_send = trio.Event()
    beta.node.vms.receive(running.ticket, [running.disk.path])
    await beta.until_told(running.vm.vm_id, is_under_way)
    vm = alpha.node.vms.get(running.vm.vm_id)
    alpha.node.vms.stop(vm, force=False)

    alpha.node.desk.on_order(MoveOrder(vm.vm_id, vm.epoch, vm.move_id, "beta", "127.0.0.1:1", bytes(32)))
    await trio.testing.wait_all_tasks_blocked(0.01)
    alpha.hypervisor.vms[0].may_send.set()

    assert (await beta.until(running.vm.vm_id, "running", "failed", "ended")).state == "running"
    assert (await alpha.until(running.vm.vm_id, "moved", "failed")).state == "moved"
