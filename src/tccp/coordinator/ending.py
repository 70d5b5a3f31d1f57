"""What nodes say of VMs that go on, have ended, stand in a file, or are gone for ever: recorded, and answered.

A node says it until it is answered, so every answer is final; when the record cannot be written there is none.
"""

import hashlib

import structlog

from tccp.coordinator.services import Services
from tccp.coordinator.sessions import NodeSession
from tccp.errors import EvidenceError, LaunchError
from tccp.protocol.destruction import verify_destruction_statement
from tccp.protocol.marks import check_marks
from tccp.protocol.messages import (
    VmAnswer,
    VmDestroyed,
    VmDestroyRecorded,
    VmEnded,
    VmEndRecorded,
    VmMarked,
    VmMarksRecorded,
    VmReportRefused,
    VmSuspended,
    VmSuspendRecorded,
)
from tccp.store import ConflictError, VmDestruction, VmEnd, VmMarks, VmSuspension

log = structlog.get_logger()


async def record_report(
    services: Services, session: NodeSession, said: VmEnded | VmMarked | VmSuspended | VmDestroyed
) -> VmAnswer:
    """The answer to *said*, once it is durable and, where it is an event, in the published log.

    Raises:
        HostError: It cannot be recorded now.
    """
    try:
        match said:
            case VmEnded():
                return await _end(services, session, said)
            case VmMarked():
                return await _mark(services, session, said)
            case VmSuspended():
                return await _suspend(services, session, said)
            case VmDestroyed():
                return await _destroy(services, session, said)
    except (ConflictError, EvidenceError) as problem:
        # Another has the VM meanwhile, or it was never there: saying it again would change nothing.
        word = type(said).__struct_config__.tag
        log.warning("report_refused", node=str(session.node), said=word, reason=problem.reason, detail=problem.detail)
        if isinstance(said, VmEnded):
            return VmEndRecorded(vm_id=said.vm_id, epoch=said.epoch)
        return VmReportRefused(str(word), said.vm_id, said.epoch, problem.reason, b"")


async def _end(services: Services, session: NodeSession, said: VmEnded) -> VmAnswer:
    end = VmEnd(
        vm_id=said.vm_id,
        epoch=said.epoch,
        lease_id=session.lease.record.lease_id,
        disk_root=_root_or_none(said.disk_root),
        reason=said.reason,
        at_ms=services.clock.now_ms(),
        marks=check_marks(said.marks) or None,
    )
    if seq := await services.store.end_vm(end):
        await services.log.included(seq)
    return VmEndRecorded(vm_id=said.vm_id, epoch=said.epoch)


async def _mark(services: Services, session: NodeSession, said: VmMarked) -> VmAnswer:
    if not said.marks:
        raise LaunchError("marks_malformed", "none")
    marks = VmMarks(said.vm_id, said.epoch, session.lease.record.lease_id, check_marks(said.marks))
    await services.store.register_marks(marks)
    return VmMarksRecorded(said.vm_id, said.epoch, said.marks)


async def _suspend(services: Services, session: NodeSession, said: VmSuspended) -> VmAnswer:
    suspension = VmSuspension(
        vm_id=said.vm_id,
        epoch=said.epoch,
        generation=said.generation,
        lease_id=session.lease.record.lease_id,
        state_root=said.state_root,
        disk_root=_root_or_none(said.disk_root),
        at_ms=services.clock.now_ms(),
        marks=check_marks(said.marks) or None,
    )
    if seq := await services.store.suspend_vm(suspension):
        await services.log.included(seq)
    return VmSuspendRecorded(said.vm_id, said.epoch)


async def _destroy(services: Services, session: NodeSession, said: VmDestroyed) -> VmAnswer:
    lease = session.lease.record
    verified = verify_destruction_statement(said.statement, said.signature, identity=lease.identity)
    if (verified.destruction.vm_id, verified.destruction.epoch) != (said.vm_id, said.epoch):
        raise LaunchError("destruction_of_another", "the statement speaks of another VM, or another epoch")
    seq = await services.store.destroy_vm(
        VmDestruction(
            vm_id=said.vm_id,
            epoch=said.epoch,
            lease_id=lease.lease_id,
            statement_sha256=verified.sha256,
            identity_sha256=hashlib.sha256(lease.identity).digest(),
            at_ms=services.clock.now_ms(),
        )
    )
    return VmDestroyRecorded(said.vm_id, said.epoch, await services.log.receipt(seq))


def _root_or_none(root: bytes) -> bytes | None:
    if len(root) not in {0, 32}:
        raise LaunchError("root_malformed", f"{len(root)} bytes")
    return root or None
