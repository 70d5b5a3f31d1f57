"""Daemons that can be held at a step: what a test wraps around them, and nothing that they know of.

A file named as a VM, with a moment in it, holds whichever daemon comes to that moment of that VM, there and for that
VM alone, until the file has gone; a file of the same name in another folder says that somebody is held. Files outlive
daemons: who is killed and started again is held again.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import trio

import tccp.coordinator.launch
import tccp.node.key_desk
import tccp.node.peers
import tccp.node.silence
from tccp.coordinator.launch import Launches
from tccp.errors import TccpError
from tccp.node.key_desk import KeyDesk
from tccp.node.peers import Waiting
from tccp.node.vm.alone import alone
from tccp.node.vms import Vms
from tccp.protocol.ticket import verify_ticket
from tccp.store.sqlite import _SqliteStore
from tccp.transport.connection import Connection
from tccp.transport.errors import PeerGoneError
from tests.faults.steps import STORED, STORED_BY, UNHEARD, UNSENT, UNSTORED, messages_about_vms, tag_of

LOOK_S = 0.05
AT_ONCE = 200  # VMs that are held at the same time; far more than a node asks about at once
# Instead of a minute, so that tests need not wait for it; and from when nobody is held any more.
SILENCE_S, ARRIVE_S = 3.0, 4.0
HANDSHAKE_S = 60.0  # with a peer that is held


class Holds:
    """The two folders.

    Args:
        folder: In which they are.
    """

    def __init__(self, folder: Path) -> None:
        self.wanted, self.held = folder / "wanted", folder / "held"
        for made in (self.wanted, self.held):
            made.mkdir(exist_ok=True)
        self._vm_of_nonce: dict[bytes, bytes] = {}

    # ---- for the test

    def want(self, vm_id: bytes, moment: str) -> None:
        """Hold the next who comes to it."""
        (self.wanted / vm_id.hex()).write_text(moment)

    async def until_held(self, vm_id: bytes) -> None:
        """Until somebody is there."""
        while not (self.held / vm_id.hex()).exists():  # noqa: ASYNC110 - another process
            await trio.sleep(LOOK_S)

    def release(self) -> None:
        """Let everybody go."""
        for folder in (self.wanted, self.held):
            for path in folder.iterdir():
                path.unlink()

    # ---- for daemons

    async def until_released(self) -> None:
        """Until nobody is to be held any more."""
        while any(self.wanted.iterdir()):  # noqa: ASYNC110 - another process
            await trio.sleep(LOOK_S)

    def holds(self, vm_id: bytes | None, moment: str) -> bool:
        """Whether to wait."""
        if vm_id is None:
            return False
        try:
            return (self.wanted / vm_id.hex()).read_text() == moment
        except FileNotFoundError:
            return False

    async def pass_by(self, vm_id: bytes | None, moment: str) -> None:
        """Wait, if this is where."""
        if self.holds(vm_id, moment):
            assert vm_id is not None
            (self.held / vm_id.hex()).write_text(moment)
            while self.holds(vm_id, moment):  # noqa: ASYNC110 - another process
                await trio.sleep(LOOK_S)

    def later(self, vm_id: bytes | None, moment: str, action: Callable[[], object]) -> bool:
        """Do it once nobody holds us there any more; False: nobody does, and it is not done."""
        if not self.holds(vm_id, moment):
            return False

        async def wait() -> None:
            await self.pass_by(vm_id, moment)
            with suppress(PeerGoneError, TccpError, trio.ClosedResourceError):  # as if it had got lost on the way
                action()

        trio.lowlevel.spawn_system_task(wait)
        return True

    def vm_of(self, message: msgspec.Struct) -> bytes | None:
        """Of which VM a message speaks."""
        nonce = getattr(message, "nonce", b"")
        if (ticket := getattr(message, "ticket", None)) is not None:
            self._vm_of_nonce[nonce] = verify_ticket(ticket, message.signature).ticket.vm_id  # type: ignore[attr-defined]
        found: bytes | None = getattr(message, "vm_id", None) or self._vm_of_nonce.get(nonce)
        return found


def hold_messages(holds: Holds) -> None:
    """Wrap what says and what takes in messages about VMs."""
    kinds = messages_about_vms()
    say = Connection.send_nowait

    @wraps(say)
    def send_nowait(self: Connection, message: Any) -> bool:
        if type(message) in kinds:
            moment = f"{tag_of(type(message))} {UNSENT}"
            if holds.later(holds.vm_of(message), moment, lambda: say(self, message)):
                return True
        return say(self, message)

    Connection.send_nowait = send_nowait  # type: ignore[method-assign]
    tccp.node.key_desk.AT_ONCE_MAX = AT_ONCE
    tccp.coordinator.launch.REQUESTS_MAX = AT_ONCE


def hold_coordinator(holds: Holds) -> None:
    """What the coordinator takes in and stores."""
    take = Launches.take

    @wraps(take)
    def held_take(self: Launches, session: Any, message: Any) -> None:
        def later() -> None:
            if not session.ended:
                take(self, session, message)

        if not holds.later(holds.vm_of(message), f"{tag_of(type(message))} {UNHEARD}", later):
            take(self, session, message)

    Launches.take = held_take  # type: ignore[method-assign]
    for message, name in STORED_BY.items():
        setattr(_SqliteStore, name, _held_transaction(holds, tag_of(message), getattr(_SqliteStore, name)))


def _held_transaction(
    holds: Holds, tag: str, transaction: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @wraps(transaction)
    async def held(self: _SqliteStore, said: Any, *others: Any) -> Any:
        await holds.pass_by(said.vm_id, f"{tag} {UNSTORED}")
        done = await transaction(self, said, *others)
        await holds.pass_by(said.vm_id, f"{tag} {STORED}")
        return done

    return held


def hold_node(holds: Holds) -> None:
    """What a node takes in."""
    take, begin_move = KeyDesk.take, Vms._begin_move

    @wraps(take)
    def held_take(self: KeyDesk, message: Any, lease_id: bytes) -> None:
        moment = f"{tag_of(type(message))} {UNHEARD}"
        if not holds.later(holds.vm_of(message), moment, lambda: take(self, message, lease_id)):
            take(self, message, lease_id)

    @wraps(begin_move)
    def held_begin(self: Vms, order: Any) -> None:
        moment = f"{tag_of(type(order))} {UNHEARD}"
        if not holds.later(order.vm_id, moment, lambda: begin_move(self, order)):
            begin_move(self, order)

    KeyDesk.take = held_take  # type: ignore[method-assign]
    Vms._begin_move = held_begin  # type: ignore[method-assign]


def hold_patience(holds: Holds) -> None:
    """A node has all patience with another as long as anybody is held: that may take any time on a busy machine."""
    watch, take_in = tccp.node.silence._watch, Waiting._take_in

    @wraps(watch)
    async def held_watch(streams: Any, patience_s: float, watching: trio.CancelScope) -> None:
        with watching:
            await holds.until_released()
            await watch(streams, patience_s, trio.CancelScope())

    @wraps(take_in)
    async def held_take_in(self: Waiting, *expected: Any) -> None:
        async def lose_patience() -> None:
            await holds.until_released()
            await trio.sleep(ARRIVE_S)
            nursery.cancel_scope.cancel()

        with alone():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose_patience)
                await take_in(self, *expected)
                nursery.cancel_scope.cancel()

    tccp.node.silence._watch = held_watch
    tccp.node.silence.SENDING_S = tccp.node.silence.RECEIVING_S = SILENCE_S
    Waiting._take_in = held_take_in  # type: ignore[method-assign]
    tccp.node.peers.ARRIVE_S = inf
    tccp.node.peers.CONNECT_S = HANDSHAKE_S
