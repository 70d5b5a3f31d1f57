"""VMs that move while they run: the coordinator stands between source and destination, and gives the word.

destination  move_request --> prepare: fresh evidence, one transaction --> move_prepared (keys, the source's TLS key)
source       <-- move_order (address, the destination's TLS key)           [the VM goes from one to the other]
destination  move_arrived --> its disks' marks; waits . . . . . . . . . . .
source       move_wiped, signed --> commit: the destination's, next epoch  --> move_go
"""

import contextlib

import structlog
import trio

from tccp.coordinator.services import Services
from tccp.coordinator.sessions import NodeSession
from tccp.errors import EvidenceError, HostError
from tccp.protocol.marks import check_marks
from tccp.protocol.messages import (
    MoveArrived,
    MoveGo,
    MoveOrder,
    MovePrepared,
    MoveStayed,
    MoveWiped,
    VmAnswer,
    VmReportRecorded,
    VmReportRefused,
)
from tccp.protocol.moving import verify_wiped
from tccp.store import (
    DESTINATION_LOST,
    ConflictError,
    LeaseRecord,
    MoveArrival,
    MoveRecord,
    MoveWord,
    VmState,
)
from tccp.transport.errors import PeerGoneError

LOOK_S = 5.0  # whether a destination that waits is still connected
ARRIVED_S = 30.0  # for a destination that is connected to say that all of it has arrived

log = structlog.get_logger()


class Moves:
    """Moves of all VMs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._arrivals = trio.lowlevel.ParkingLot()

    async def prepared(self, move: MoveRecord, wrapped_keys: bytes) -> MovePrepared:
        """What the destination needs, once the source has been told.

        Raises:
            ConflictError: ``vm_not_running``: it is over already.
            HostError: The record cannot be read.
        """
        receipt = await self._services.log.receipt(move.seq)
        source, marks = await self._lease_of_owner(move)
        session = self._services.sessions.get(source.node)
        if session is not None:
            with contextlib.suppress(PeerGoneError):  # it is told when it comes back
                await self._tell(session, move)
        return MovePrepared(
            move.move_id, move.vm_id, move.epoch + 1, wrapped_keys, source.tls_spki_sha256, marks, receipt
        )

    async def remind(self, session: NodeSession) -> None:
        """Tell a node of the moves of its VMs; it knows those that it is at already."""
        try:
            for move in await self._services.store.moves_from(session.node, self._services.clock.now_ms()):
                await self._tell(session, move)
        except HostError as problem:
            log.warning("not_reminded", node=str(session.node), reason=problem.reason, detail=problem.detail)

    async def record(self, session: NodeSession, said: MoveArrived | MoveWiped | MoveStayed) -> VmAnswer:
        """The answer to *said*, once it is in the published log.

        Raises:
            HostError: It cannot be recorded now; or ``node_gone``: whoever waits is not there any more.
        """
        word = str(type(said).__struct_config__.tag)
        try:
            if isinstance(said, MoveArrived):
                return await self._go(session, said)
            await self._end(session, said)
        except (ConflictError, EvidenceError) as problem:
            log.warning("report_refused", node=str(session.node), said=word, reason=problem.reason)
            return VmReportRefused(word, said.vm_id, said.epoch, problem.reason)
        return VmReportRecorded(word, said.vm_id, said.epoch)

    async def _go(self, session: NodeSession, said: MoveArrived) -> MoveGo:
        """Wait for the source's word, as long as it can give one."""
        store = self._services.store
        while not session.ended:
            seq = await store.last_seq()
            # In this order: a commit in between makes it the destination's, and would be missed the other way round.
            move = await self._under_way(said.vm_id)
            record = await store.vm(said.vm_id)
            lease = session.lease.record
            owned = (lease.node, lease.boot_id, said.epoch, said.move_id, VmState.RUNNING)
            if record and (record.node, record.boot_id, record.epoch, record.nonce, record.state) == owned:
                return MoveGo(said.vm_id, said.epoch, await self._services.log.receipt(record.seq))
            if move is None or (move.move_id, move.node) != (said.move_id, lease.node):
                raise ConflictError("move_over", f"{said.vm_id.hex()}: {said.move_id.hex()}")
            if move.marks is None:
                marks = check_marks(said.marks)
                await store.arrive(MoveArrival(said.vm_id, said.epoch, said.move_id, lease.lease_id, marks))
                self._arrivals.unpark_all()
            with trio.move_on_after(LOOK_S):
                await store.wait_for_events(seq)
        raise HostError("node_gone", str(session.node))

    async def _end(self, session: NodeSession, said: MoveWiped | MoveStayed) -> None:
        lease = session.lease.record
        wiped = bytes(32)
        if isinstance(said, MoveWiped):
            move = (said.vm_id, said.epoch, said.move_id)
            wiped = verify_wiped(said.statement, said.signature, identity=lease.identity, move=move)
            await self._arrived(said)
        now_ms = self._services.clock.now_ms()
        word = MoveWord(said.vm_id, said.epoch, said.move_id, lease.lease_id, wiped, now_ms)
        if isinstance(said, MoveStayed):
            log.info("stayed", vm=said.vm_id.hex(), node=str(session.node), reason=said.reason)
            await self._services.log.included(await self._services.store.abort_move(word))
            return
        record = await self._services.store.commit_move(word)
        self._services.log.hurry()
        log.info("moved", vm=said.vm_id.hex(), node=str(record.node), epoch=record.epoch, state=record.state)
        await self._services.log.included(await self._services.store.last_seq())
        if record.end_reason == DESTINATION_LOST:
            raise ConflictError(DESTINATION_LOST, f"{said.vm_id.hex()}: nobody has it")

    async def _arrived(self, said: MoveWiped) -> None:
        """Until the destination has said so, which it does at about the same time.

        One that is away, as all are when the coordinator itself was, says so once it is back, and may come as long as
        it has its lease. Who is there and does not say so, or is out, has lost the VM.
        """
        deadline = trio.current_time() + ARRIVED_S
        while True:
            move = await self._under_way(said.vm_id)
            if move is None or move.move_id != said.move_id or move.marks is not None:
                return
            if await self._lease_of_destination(move) is None:
                return
            if self._services.sessions.get(move.node) is None:
                deadline = trio.current_time() + ARRIVED_S
            elif trio.current_time() >= deadline:
                return
            with trio.move_on_at(min(deadline, trio.current_time() + LOOK_S)):
                await self._arrivals.park()

    async def _under_way(self, vm_id: bytes) -> MoveRecord | None:
        return await self._services.store.move(vm_id, self._services.clock.now_ms())

    async def _tell(self, session: NodeSession, move: MoveRecord) -> None:
        lease = await self._lease_of_destination(move)
        spki_sha256 = lease.tls_spki_sha256 if lease is not None else bytes(32)  # so that the source finds nobody
        order = MoveOrder(move.vm_id, move.epoch, move.move_id, str(move.node), move.address, spki_sha256)
        await session.connection.send(order)

    async def _lease_of_destination(self, move: MoveRecord) -> LeaseRecord | None:
        """The lease that the boot to which it moves holds now."""
        lease = await self._services.store.open_lease(move.node)
        holds = lease is not None and lease.boot_id == move.boot_id and lease.expires_ms > self._services.clock.now_ms()
        return lease if holds else None

    async def _lease_of_owner(self, move: MoveRecord) -> tuple[LeaseRecord, bytes]:
        record = await self._services.store.vm(move.vm_id)
        lease = None if record is None else await self._services.store.lease(record.lease_id)
        if record is None or lease is None or record.epoch != move.epoch:
            raise ConflictError("vm_not_running", f"{move.vm_id.hex()} has moved, or ended")
        return lease, record.marks or b""
