"""What QEMU's side says of a ticket before any key is asked for, and how the roots of several disks become one."""

from typing import Any, cast

import msgspec
import pytest

from tccp.errors import HostError, LaunchError
from tccp.node.hypervisor import NoHypervisor
from tccp.node.qemu_hypervisor import QemuHypervisor
from tccp.protocol.ticket import Ticket, TicketImage, verify_ticket
from tests.protocol.test_ticket import GOOD

TICKET = msgspec.structs.replace(
    verify_ticket(GOOD.ticket, GOOD.signature).ticket,
    shape=msgspec.structs.replace(verify_ticket(GOOD.ticket, GOOD.signature).ticket.shape, networks=()),
)


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
