"""What the VMs of this node want from the coordinator, over whichever connection there is just now.

    launch --request_keys--> [ waiting, by nonce ] --KeyRequest--> coordinator
           <--keys or refusal-------+<------------KeyRelease, KeyRefused

A connection may break and the node register again while somebody waits: what has no answer is said again on the next
connection, with the same nonce, and the coordinator knows it for the same request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from tccp.errors import LaunchError
from tccp.image.keys import RecipientSecretKey
from tccp.node.released import PreparedMove, ReleasedKeys, not_started, unwrap_release
from tccp.protocol.messages import (
    KeyRefused,
    KeyRelease,
    KeyRequest,
    MoveGo,
    MoveOrder,
    MovePrepared,
    MoveReport,
    MoveRequest,
    NodeReport,
    NodeRequest,
    ResumeRequest,
    VmAnswer,
    VmDestroyRecorded,
    VmEndRecorded,
    VmMarksRecorded,
    VmReportRecorded,
    VmReportRefused,
    VmSuspendRecorded,
)
from tccp.protocol.ticket import VerifiedTicket
from tccp.transport.connection import Connection, fresh_nonce
from tccp.transport.errors import PeerGoneError

ASK_AGAIN_S = 60.0  # the coordinator may have had trouble of its own, and says nothing then
AT_ONCE_MAX = 8  # the coordinator takes twice as many from a node,
# and as many more of what it may answer only when another node has spoken.
MOVE_REPORTS_MAX = 256
# VMs of which it is remembered when they were released to us last: a second answer to a request comes soon, or never.
RELEASES_KEPT_MAX = 4096

HINTS = {
    "tenant_unknown": "the operator of the coordinator takes tenants in: `tccp coordinator tenant add`",
    "ticket_used": "a ticket starts one VM once; ask its tenant for another",
    "ticket_expired": "ask its tenant for another",
    "ticket_for_another_coordinator": "this node belongs to another coordinator than the ticket",
    "ticket_signature": "the ticket was altered on its way",
    "keys_unopened": "the ticket was written for a coordinator with another release key",
    "policy_not_demanded": "the ticket demands a node that another policy, or a later version of it, has admitted",
    "attribute_not_attested": "the ticket demands attributes that this node's evidence does not show",
    "attribute_not_demanded": "the ticket demands a node with other attributes",
    "vm_running": "the VM runs already, here or on another node",
    "vm_not_free": "the node that had the VM may run it until its lease ends; try again then",
    "vm_suspended": "`tccp vm resume` goes on from the suspended state; a ticket with --any-disk-state gives it up",
    "vm_not_suspended": "its suspended state was resumed already, or it was never suspended",
    "state_old": "only its newest state is resumed, but by a ticket that its tenant made with --allow-rollback",
    "state_unknown": "the VM never stood in this state",
    "another_ticket": "resume it with the ticket that started it last",
    "vm_destroyed": "nothing is left of this VM; make a new one",
    "vm_not_running": "only a VM that runs moves",
    "vm_moving": "it is on its way to another node; try again when that is over",
    "source_silent": "its node holds no lease just now",
    "no_fresh_evidence": "this node could not prove its state just now; its log says more",
}

Key = bytes | tuple[str, bytes, int, bytes]  # the nonce of a request; report, VM, epoch, and move if it is of one
# What each report is answered by, beside a refusal.
RECORDED: dict[type[VmAnswer], str] = {
    VmEndRecorded: "vm_ended",
    VmMarksRecorded: "vm_marked",
    VmSuspendRecorded: "vm_suspended",
    VmDestroyRecorded: "vm_destroyed",
    MoveGo: "move_arrived",
}


log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    answered: trio.Event = field(default_factory=trio.Event)
    answer: VmAnswer | None = None
    lease_id: bytes = b""  # under which the answer came


class KeyDesk:
    """Requests that wait for the coordinator, and what it has not recorded yet of VMs.

    Args:
        boot_key: The key of this boot, to which keys are released.
    """

    def __init__(self, boot_key: RecipientSecretKey) -> None:
        self._boot_key = boot_key
        self.on_order: Callable[[MoveOrder], None] = lambda _order: None  # called when a VM of ours is to move
        self._connection: Connection | None = None
        self._open: dict[Key, NodeRequest | NodeReport] = {}  # what has no answer yet, the oldest first
        self._said_at: dict[Key, float] = {}  # on this connection; trio time
        self._ever_said: set[Key] = set()  # of what is open
        self._waiting: dict[Key, _Waiting] = {}
        self._newest: dict[bytes, int] = {}  # VM -> the epoch in which it was released to us last, in that order
        self._settled = trio.lowlevel.ParkingLot()

    # ---- for those who run VMs

    async def request_move(self, ticket: VerifiedTicket, body: bytes, signature: bytes, address: str) -> PreparedMove:
        """What is needed to take over the VM that *ticket* has started; its node will come to *address*.

        Raises:
            LaunchError: As `request_keys`.
        """
        nonce = fresh_nonce().value
        try:
            waiting = await self._answered(nonce, MoveRequest(body, signature, nonce, address))
        finally:
            self._settle(nonce)
        if isinstance(waiting.answer, KeyRefused):
            reason = waiting.answer.reason
            raise LaunchError(reason, "the coordinator refuses the move", hint=HINTS.get(reason, ""))
        assert isinstance(waiting.answer, MovePrepared)
        keys = unwrap_release(waiting.answer, ticket, self._boot_key, waiting.lease_id)
        return PreparedMove(keys, nonce, waiting.answer.source_spki_sha256)

    async def request_keys(
        self, ticket: VerifiedTicket, body: bytes, signature: bytes, *, state_root: bytes = b""
    ) -> ReleasedKeys:
        """The keys that *ticket* entitles this node to; waits for a connection, and for as long as it takes.

        Args:
            state_root: Of the suspended state from which the VM is to go on; empty to start it.

        Raises:
            LaunchError: The coordinator refused, for the reason that it gave; or ``keys_unopened``.
        """
        nonce = fresh_nonce().value
        request: NodeRequest = KeyRequest(body, signature, nonce)
        if state_root:
            request = ResumeRequest(body, signature, nonce, state_root)
        try:
            waiting = await self._answered(nonce, request)
        except BaseException:
            # The coordinator may have made us the owner: it is asked until it says so, and then it gets the VM back.
            if nonce not in self._ever_said:
                self._settle(nonce)
            raise
        if isinstance(waiting.answer, KeyRefused):
            reason = waiting.answer.reason
            raise LaunchError(reason, "the coordinator refuses the keys", hint=HINTS.get(reason, ""))
        assert isinstance(waiting.answer, KeyRelease)
        try:
            return unwrap_release(waiting.answer, ticket, self._boot_key, waiting.lease_id)
        except LaunchError:
            self._give_back(waiting.answer)
            raise

    def report(self, said: NodeReport) -> None:
        """Tell the coordinator, now or when there is a connection, until it has recorded that."""
        self._add(_key_of(said), said)

    async def recorded(self, said: NodeReport) -> VmAnswer:
        """As `report`; and the answer, when it comes. Who stops waiting for it does not take back what was said.

        Raises:
            LaunchError: It is not recorded, and will not be, for the reason that the coordinator gave.
        """
        answer = (await self._answered(_key_of(said), said)).answer
        if isinstance(answer, VmReportRefused):
            raise LaunchError(answer.reason, f"the coordinator does not record {answer.report}")
        assert answer is not None
        return answer

    async def all_recorded(self) -> None:
        """Return once the coordinator has answered all that was reported."""
        while any(isinstance(message, NodeReport) for message in self._open.values()):
            await self._settled.park()

    # ---- for the session

    def attach(self, connection: Connection) -> None:
        """Speak over *connection*, that of an admitted node, from now on; first all that has no answer yet."""
        self._connection = connection
        self._said_at.clear()
        self.say()

    def detach(self) -> None:
        """The connection is over."""
        self._connection = None

    def take(self, message: VmAnswer, lease_id: bytes) -> None:
        """What the coordinator said, under the lease that the node holds on this connection."""
        key = _answered_key(message)
        waiting = self._waiting.get(key)
        if isinstance(message, KeyRelease) and self._is_new(message) and waiting is None:
            self._give_back(message)  # whoever asked has given up
        elif waiting is not None and waiting.answer is None:
            waiting.answer, waiting.lease_id = message, lease_id
            waiting.answered.set()
        if isinstance(message, VmReportRefused):
            log.error("report_refused", said=message.report, vm=message.vm_id.hex(), reason=message.reason)
        self._settle(key)

    def say(self) -> None:
        """Say what was not said yet, or long ago and in vain; no more at once than the coordinator takes.

        Called whenever something changes, and now and then: what the kernel did not take at once goes out so.
        """
        if self._connection is None:
            return
        now = trio.current_time()
        try:
            self._connection.push()
            for key in self._due(now):
                self._said_at[key] = now
                self._ever_said.add(key)
                self._connection.send_nowait(self._open[key])
        except PeerGoneError:
            self._connection = None

    # ---- how

    def _due(self, now: float) -> list[Key]:
        of_moves = {key for key, message in self._open.items() if isinstance(message, MoveReport)}
        again = [key for key, said_at in self._said_at.items() if said_at + ASK_AGAIN_S <= now]
        # What waits for another node is not in the way of all the rest.
        for keys, most in ((of_moves, MOVE_REPORTS_MAX), (self._open.keys() - of_moves, AT_ONCE_MAX)):
            room = most - len(keys & self._said_at.keys())
            again += [key for key in self._open if key in keys and key not in self._said_at][: max(room, 0)]
        return again

    async def _answered(self, key: Key, message: NodeRequest | NodeReport) -> _Waiting:
        waiting = self._waiting[key] = _Waiting()
        try:
            self._add(key, message)
            await waiting.answered.wait()
        except BaseException:
            if isinstance(waiting.answer, KeyRelease):  # it came in the moment in which the wait was given up
                self._give_back(waiting.answer)
            raise
        finally:
            if self._waiting.get(key) is waiting:  # else the same was said anew, and whoever did that waits
                del self._waiting[key]
        return waiting

    def _add(self, key: Key, message: NodeRequest | NodeReport) -> None:
        self._open[key] = message
        self.say()

    def _settle(self, key: Key) -> None:
        self._open.pop(key, None)
        self._said_at.pop(key, None)
        self._ever_said.discard(key)
        self._settled.unpark_all()
        self.say()

    def _is_new(self, release: KeyRelease) -> bool:
        """Whether it is not the second answer to a request that was said twice; the VM may be running by the first."""
        if release.epoch <= self._newest.get(release.vm_id, 0):
            return False
        self._newest.pop(release.vm_id, None)
        self._newest[release.vm_id] = release.epoch
        if len(self._newest) > RELEASES_KEPT_MAX:
            del self._newest[next(iter(self._newest))]
        return True

    def _give_back(self, release: KeyRelease) -> None:
        """The VM is ours in this epoch, and nobody will run it."""
        self.report(not_started(release.vm_id, release))


def _key_of(said: NodeReport) -> Key:
    move_id = said.move_id if isinstance(said, MoveReport) else b""
    return str(type(said).__struct_config__.tag), said.vm_id, said.epoch, move_id


def _answered_key(message: VmAnswer) -> Key:
    if isinstance(message, KeyRelease | KeyRefused | MovePrepared):
        return message.nonce
    if isinstance(message, VmReportRefused | VmReportRecorded):
        return message.report, message.vm_id, message.epoch, message.move_id
    move_id = message.move_id if isinstance(message, MoveGo) else b""
    return RECORDED[type(message)], message.vm_id, message.epoch, move_id
