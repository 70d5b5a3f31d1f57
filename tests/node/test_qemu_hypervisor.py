"""What QEMU's side says of a ticket before any key is asked for, and how the roots of several disks become one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tccp.errors import DiskError, HostError, LaunchError
from tccp.node.hypervisor import NoHypervisor
from tccp.node.launch import VmOrder
from tccp.node.qemu_hypervisor import QemuHypervisor, _Disks
from tccp.node.vm.vm import VmEnd
from tccp.protocol.ticket import Ticket, TicketImage, verify_ticket
from tests.protocol.test_ticket import GOOD

TICKET = msgspec.structs.replace(
    verify_ticket(GOOD.ticket, GOOD.signature).ticket,
    shape=msgspec.structs.replace(verify_ticket(GOOD.ticket, GOOD.signature).ticket.shape, networks=()),
)
ROOTS = (b"\x01" * 32, b"\x02" * 32)


def shaped(**changes: Any) -> Ticket:
    return msgspec.structs.replace(TICKET, shape=msgspec.structs.replace(TICKET.shape, **changes))


@pytest.fixture
def hypervisor() -> QemuHypervisor:
    """Only asked whether it could."""
    return QemuHypervisor(cast("Any", None))


def test_what_qemu_can_give_is_accepted(hypervisor: QemuHypervisor) -> None:
    hypervisor.check(TICKET)


@pytest.mark.parametrize(
    "ticket",
    [
        shaped(networks=("office",)),
        shaped(vcpus=200),
        shaped(memory_mib=16),
        shaped(cmdline="x" * 3000),
        shaped(cmdline="caf\u00e9"),
        msgspec.structs.replace(
            TICKET, images=tuple(TicketImage("disk", bytes([number]) * 16, bytes(32)) for number in range(9))
        ),
    ],
    ids=["network", "vcpus", "memory", "long", "unprintable", "disks"],
)
def test_what_it_cannot_is_refused_before_any_key_is_asked_for(hypervisor: QemuHypervisor, ticket: Ticket) -> None:
    with pytest.raises(LaunchError, match="shape_unsupported"):
        hypervisor.check(ticket)


def test_a_host_without_vms_says_so() -> None:
    with pytest.raises(HostError, match="no_hypervisor"):
        NoHypervisor().check(TICKET)


def disks(folder: Path, count: int, demanded: bytes | None) -> _Disks:
    images = tuple(
        SimpleNamespace(
            role="disk", path=folder / str(number), key=None, sealed=SimpleNamespace(info=SimpleNamespace(root=b""))
        )
        for number in range(count)
    )
    return _Disks(
        folder, cast("VmOrder", SimpleNamespace(images=images, keys=SimpleNamespace(disk_root=demanded, marks=b"")))
    )


def test_the_root_of_one_disk_is_the_one_that_is_registered(tmp_path: Path) -> None:
    assert disks(tmp_path, 1, None).left(VmEnd("killed", "", ROOTS[:1])) == ROOTS[0]
    assert [disk.live_root for disk in disks(tmp_path, 1, ROOTS[0]).all()] == [ROOTS[0]]


def test_the_roots_of_several_disks_are_kept_beside_them_and_checked(tmp_path: Path) -> None:
    one = disks(tmp_path, 2, None).left(VmEnd("killed", "", ROOTS))

    assert len(one) == 32
    assert [disk.live_root for disk in disks(tmp_path, 2, one).all()] == list(ROOTS)

    (tmp_path / "disk_roots").write_bytes(ROOTS[1] + ROOTS[0])
    with pytest.raises(DiskError, match="disk_roots"):
        disks(tmp_path, 2, one).all()
    (tmp_path / "disk_roots").unlink()
    with pytest.raises(DiskError, match="disk_roots"):
        disks(tmp_path, 2, one).all()


def test_a_root_that_nobody_can_say_is_none(tmp_path: Path) -> None:
    assert disks(tmp_path, 2, None).left(VmEnd("killed", "", (ROOTS[0], None))) == b""
    assert disks(tmp_path, 0, None).left(VmEnd("killed", "", ())) == b""
