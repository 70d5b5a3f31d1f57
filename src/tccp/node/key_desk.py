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

from tccp.core.image import ImageKey
from tccp.errors import LaunchError
from tccp.image.entrusting import unwrap_keys
from tccp.image.keys import RecipientSecretKey
from tccp.protocol.marks import MARK_BYTES, check_marks
from tccp.protocol.messages import (
    KeyRefused,
    KeyRelease,
    KeyRequest,
    MoveGo,
    MoveOrder,
    MovePrepared,
    MoveRequest,
    NodeReport,
    NodeRequest,
    ResumeRequest,
    VmAnswer,
    VmDestroyRecorded,
    VmEnded,
    VmEndRecorded,
    VmMarksRecorded,
    VmReportRecorded,
    VmReportRefused,
    VmSuspended,
    VmSuspendRecorded,
)
from tccp.protocol.ticket import VerifiedTicket, release_info
from tccp.transport.connection import Connection, fresh_nonce
from tccp.transport.errors import PeerGoneError

ASK_AGAIN_S = 60.0  # the coordinator may have had trouble of its own, and says nothing then
AT_ONCE_MAX = 8  # the coordinator takes twice as many from a node

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

Key = bytes | tuple[str, bytes, int]  # the nonce of a request; report, VM and epoch
# What each report is answered by, beside a refusal.
RECORDED: dict[type[VmAnswer], str] = {
    VmEndRecorded: "vm_ended",
    VmMarksRecorded: "vm_marked",
    VmSuspendRecorded: "vm_suspended",
    VmDestroyRecorded: "vm_destroyed",
    MoveGo: "move_arrived",
}


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReleasedKeys:
    """The keys of a VM that this node now owns, in locked memory.

    Attributes:
        images: One for each image of the ticket, in its order.
        disk_root: That the VM's disk must have; None when it has none yet.
        receipt: Of the release, in the coordinator's log.
        generation: Of the suspended state from which it goes on; 0 when it starts.
        state_root: Of that state.
        marks: That vTPM and disks must have come by (`tccp.protocol.marks`); of a VM that moves here the vTPM's alone.
    """

    vm_key: ImageKey = field(repr=False)
    images: tuple[ImageKey, ...] = field(repr=False)
    epoch: int
    disk_root: bytes | None
    receipt: bytes
    generation: int = 0
    state_root: bytes = b""
    marks: bytes = b""


@dataclass(frozen=True, slots=True)
class PreparedMove:
    """A VM is on its way to us, and not ours yet.

    Attributes:
        keys: Of the epoch that it will have.
        source_spki_sha256: Of the TLS key of its node.
    """

    keys: ReleasedKeys
    move_id: bytes
    source_spki_sha256: bytes


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
        self._released: dict[bytes, int] = {}  # VM -> the last epoch whose keys somebody here has got
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
        keys = self._unwrap(waiting.answer, ticket, waiting.lease_id)
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
            return self._unwrap(waiting.answer, ticket, waiting.lease_id)
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
        if waiting is not None and waiting.answer is None:
            waiting.answer, waiting.lease_id = message, lease_id
            waiting.answered.set()
            if isinstance(message, KeyRelease):
                self._released[message.vm_id] = message.epoch
        elif isinstance(message, KeyRelease) and self._released.get(message.vm_id) != message.epoch:
            self._give_back(message)  # whoever asked has given up; but what was asked twice is answered twice
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
            for key, message in self._open.items():
                if self._may_say(key, now):
                    self._said_at[key] = now
                    self._ever_said.add(key)
                    self._connection.send_nowait(message)
        except PeerGoneError:
            self._connection = None

    # ---- how

    def _may_say(self, key: Key, now: float) -> bool:
        if key in self._said_at:
            return self._said_at[key] + ASK_AGAIN_S <= now
        return len(self._said_at) < AT_ONCE_MAX

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

    def _give_back(self, release: KeyRelease) -> None:
        """The VM is ours in this epoch, and nobody will run it."""
        self.report(not_started(release.vm_id, release))

    def _unwrap(self, release: KeyRelease | MovePrepared, ticket: VerifiedTicket, lease_id: bytes) -> ReleasedKeys:
        if release.vm_id != ticket.ticket.vm_id:
            raise LaunchError("keys_unopened", "for another VM than the ticket's")
        info = release_info(ticket.sha256, release.vm_id, release.epoch, lease_id, release.nonce)
        count = 1 + len(ticket.ticket.images)
        vm_key, *images = unwrap_keys(release.wrapped_keys, self._boot_key, info, count=count)
        if isinstance(release, MovePrepared):
            vtpm_mark = check_marks(release.marks)[:MARK_BYTES]
            return ReleasedKeys(vm_key, tuple(images), release.epoch, None, release.receipt, marks=vtpm_mark)
        return ReleasedKeys(
            vm_key,
            tuple(images),
            release.epoch,
            release.disk_root or None,
            release.receipt,
            release.generation,
            release.state_root,
            check_marks(release.marks),
        )


def not_started(
    vm_id: bytes,
    had: KeyRelease | ReleasedKeys,
    *,
    reason: str = "not_started",
    left: tuple[bytes, bytes] = (b"", b""),
) -> NodeReport:
    """What is to be said of a VM that was released to us and has never run: it is as it was before.

    Args:
        left: Root and marks of its disks, if they were opened and closed in the meantime.
    """
    root, marks = left[0] or had.disk_root or b"", left[1] or had.marks
    if had.generation:
        return VmSuspended(vm_id, had.epoch, had.generation, had.state_root, root, marks)
    return VmEnded(vm_id, had.epoch, root, marks, reason)


def _key_of(said: NodeReport) -> Key:
    return str(type(said).__struct_config__.tag), said.vm_id, said.epoch


def _answered_key(message: VmAnswer) -> Key:
    if isinstance(message, KeyRelease | KeyRefused | MovePrepared):
        return message.nonce
    if isinstance(message, VmReportRefused | VmReportRecorded):
        return message.report, message.vm_id, message.epoch
    return RECORDED[type(message)], message.vm_id, message.epoch
