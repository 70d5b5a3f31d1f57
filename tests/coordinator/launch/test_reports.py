"""What nodes say of their VMs and no node of ours would: answered, recorded nowhere, and no harm to anybody."""

import pytest

from tccp.protocol.messages import (
    KeyRelease,
    VmEnded,
    VmEndRecorded,
    VmMarked,
    VmMarksRecorded,
    VmReportRefused,
    VmSuspended,
)
from tccp.store import VmRecord, VmState
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import LiveCoordinator


@pytest.fixture
async def vm_id(alpha: AskingNode, tenant: Tenant, disk: SealedFile) -> bytes:
    """Of a VM that alpha owns."""
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)
    return vm.vm_id


async def record_of(coordinator: LiveCoordinator, vm_id: bytes) -> VmRecord:
    record = await coordinator.store.vm(vm_id)
    assert record is not None
    return record


def mark(sequence: int) -> bytes:
    return sequence.to_bytes(8, "little") + bytes([sequence]) * 32


@pytest.mark.parametrize(("root", "marks"), [(b"r" * 5, b""), (b"", b"m" * 39), (b"", b"m" * 41)])
async def test_a_vm_that_ended_with_an_odd_root_or_odd_marks_is_answered_and_stays_as_it_was(
    coordinator: LiveCoordinator, alpha: AskingNode, vm_id: bytes, root: bytes, marks: bytes
) -> None:
    before = await record_of(coordinator, vm_id)

    await alpha.connection.send(VmEnded(vm_id, 1, root, marks, "shut_down"))

    assert await alpha.receive(VmEndRecorded) == VmEndRecorded(vm_id, 1)  # so that it is not said for ever
    assert await record_of(coordinator, vm_id) == before
    # The control: coordinator and connection are well, and what is right is recorded.
    await alpha.connection.send(VmEnded(vm_id, 1, b"r" * 32, mark(1), "shut_down"))
    await alpha.receive(VmEndRecorded)
    record = await record_of(coordinator, vm_id)
    assert (record.state, record.disk_root, record.marks) == (VmState.ENDED, b"r" * 32, mark(1))


async def test_a_suspension_with_odd_marks_is_refused(
    coordinator: LiveCoordinator, alpha: AskingNode, vm_id: bytes
) -> None:
    await alpha.connection.send(VmSuspended(vm_id, 1, 1, b"s" * 32, b"", b"odd"))

    assert (await alpha.receive(VmReportRefused)).reason == "marks_malformed"
    assert (await record_of(coordinator, vm_id)).state == VmState.RUNNING


@pytest.mark.parametrize("odd", [b"", b"m" * 39], ids=["none", "short"])
async def test_odd_marks_are_refused_and_right_ones_recorded(
    coordinator: LiveCoordinator, alpha: AskingNode, vm_id: bytes, odd: bytes
) -> None:
    await alpha.connection.send(VmMarked(vm_id, 1, odd))
    refusal = await alpha.receive(VmReportRefused)
    assert (refusal.report, refusal.reason) == ("vm_marked", "marks_malformed")

    await alpha.connection.send(VmMarked(vm_id, 1, mark(1)))

    assert await alpha.receive(VmMarksRecorded) == VmMarksRecorded(vm_id, 1, mark(1))
    assert (await record_of(coordinator, vm_id)).marks == mark(1)


async def test_nobody_but_the_owner_registers_marks(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, vm_id: bytes
) -> None:
    await alpha.connection.send(VmMarked(vm_id, 1, mark(5)))
    await alpha.receive(VmMarksRecorded)

    await beta.connection.send(VmMarked(vm_id, 1, mark(9)))

    assert (await beta.receive(VmReportRefused)).reason == "vm_of_another_node"
    assert (await record_of(coordinator, vm_id)).marks == mark(5)


async def test_marks_that_were_overtaken_on_another_connection_change_nothing(
    coordinator: LiveCoordinator, alpha: AskingNode, vm_id: bytes
) -> None:
    for sequence in (5, 6):
        await alpha.connection.send(VmMarked(vm_id, 1, mark(sequence)))
        await alpha.receive(VmMarksRecorded)

    await alpha.connection.send(VmMarked(vm_id, 1, mark(5)))

    assert (await alpha.receive(VmReportRefused)).reason == "marks_old"
    assert (await record_of(coordinator, vm_id)).marks == mark(6)


async def test_the_marks_of_a_vm_that_crashed_come_with_its_keys(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)
    await alpha.connection.send(VmMarked(vm.vm_id, 1, mark(5)))
    await alpha.receive(VmMarksRecorded)
    await alpha.end(vm)  # nobody could say how the disk was left

    again, vm = tenant.ticket([disk], vm)
    any_state, _ = tenant.ticket([disk], vm, disk_state="any")
    release = await beta.ask(beta.request(again))
    assert isinstance(release, KeyRelease)
    assert (release.disk_root, release.marks) == (b"", mark(5))

    # Only their tenant can give them up.
    await beta.end(vm, epoch=2)
    given_up = await beta.ask(beta.request(any_state))
    assert isinstance(given_up, KeyRelease)
    assert (given_up.disk_root, given_up.marks) == (b"", b"")
