"""``tccp vm`` beside a node's daemon: steps, refusals, exit codes. What a guest does is in `tests/system`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tccp.node.registration import NodeTpm
from tccp.protocol.ticket import SignedTicket
from tccp.tenant.vm_file import VmFile
from tests.cli.running import Ended, tccp
from tests.coordinator.conftest import coordinator, coordinator_tpm, host, host_tpm
from tests.support.launching import SealedFile, Tenant, ticket_file
from tests.support.live_coordinator import LiveCoordinator
from tests.support.live_node import LiveNode, live_node

__all__ = ["coordinator", "coordinator_tpm", "host", "host_tpm"]


class Desk:
    """A node, and a ticket for it in a file."""

    def __init__(self, node: LiveNode, folder: Path, disk: SealedFile, signed: SignedTicket, vm: VmFile) -> None:
        self.node, self.folder, self.disk, self.vm = node, folder, disk, vm
        self.ticket = folder / "ticket"
        self.ticket.write_bytes(ticket_file(signed))

    async def tccp(self, *words: str | Path) -> Ended:
        """Run the command, while the daemon runs in this very process."""
        arguments = (*words, "--socket", self.node.control)
        return await trio.to_thread.run_sync(lambda: tccp("vm", *arguments))

    async def launch(self, *more: str | Path) -> Ended:
        """Launch the ticket."""
        return await self.tccp("launch", self.ticket, self.disk.path, *more)


@pytest.fixture
async def desk(coordinator: LiveCoordinator, host: NodeTpm, tmp_path: Path) -> AsyncIterator[Desk]:
    tenant = Tenant.of(tmp_path, coordinator)
    await tenant.enrol(coordinator)
    await coordinator.enrol("alpha", host)
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk])
    async with live_node(coordinator, "alpha", host, tmp_path) as node:
        yield Desk(node, tmp_path, disk, signed, vm)


async def test_a_launch_tells_its_steps_and_leaves_a_receipt(desk: Desk) -> None:
    ended = await desk.launch("--receipt", desk.folder / "receipt", "--json")

    assert (ended.code, ended.document["state"], ended.document["epoch"]) == (0, "running", 1)
    assert (desk.folder / "receipt").read_bytes() == desk.node.node.vms.get(desk.vm.vm_id).receipt


async def test_a_person_sees_what_goes_on(desk: Desk) -> None:
    ended = await desk.launch()

    assert ended.code == 0
    assert "asking the coordinator for the keys" in ended.err
    assert desk.vm.vm_id.hex() in ended.out


async def test_a_refusal_is_an_error_with_a_hint(desk: Desk) -> None:
    assert (await desk.launch()).code == 0
    vm_id = desk.vm.vm_id.hex()
    assert (await desk.tccp("stop", vm_id[:6])).code == 0

    ended = await desk.launch()

    assert ended.code == 1
    assert "tccp: error: ticket_used" in ended.err
    assert "tccp: hint: a ticket starts one VM once" in ended.err


async def test_vms_are_listed_shown_and_stopped_by_how_their_ids_begin(desk: Desk) -> None:
    await desk.launch()
    vm_id = desk.vm.vm_id.hex()

    assert [vm["vm_id"] for vm in (await desk.tccp("list", "--json")).document["vms"]] == [vm_id]
    assert (await desk.tccp("show", vm_id[:4], "--json")).document["state"] == "running"
    assert (await desk.tccp("show", "f" * 32)).code == 4
    assert (await desk.tccp("receipt", vm_id[:4], desk.folder / "r")).code == 0
    stopped = await desk.tccp("stop", "--force", vm_id[:4], "--json")
    assert (stopped.code, stopped.document["reason"]) == (0, "killed")
    assert (await desk.tccp("console", vm_id[:4])).code == 4
    assert vm_id in (await desk.tccp("list")).out


async def test_a_file_that_is_there_is_not_overwritten_by_a_receipt(desk: Desk) -> None:
    (desk.folder / "receipt").write_text("precious")

    ended = await desk.launch("--receipt", desk.folder / "receipt")

    assert (ended.code, (desk.folder / "receipt").read_text()) == (4, "precious")
    assert not desk.node.node.vms.all()


async def test_without_a_daemon_there_is_a_clear_error(tmp_path: Path) -> None:
    ended = await trio.to_thread.run_sync(lambda: tccp("vm", "list", "--socket", tmp_path / "nobody.sock"))

    assert (ended.code, "no_daemon" in ended.err) == (3, True)
