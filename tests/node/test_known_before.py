"""What is here of a VM is known until it is removed, whatever came of later attempts to start it."""

from pathlib import Path

import pytest

from tccp.errors import LaunchError
from tests.node.running import Running
from tests.support.launching import Tenant, ticket_file
from tests.support.live_node import LiveNode


async def fail_to_start(alpha: LiveNode, running: Running, tenant: Tenant, other: Path) -> None:
    again, _ = tenant.ticket([running.disk], running.vm)
    info = await alpha.launch(ticket_file(again), other)
    assert (info.state, info.reason, info.epoch) == ("failed", "image_missing", 0)


@pytest.fixture
def other(tenant: Tenant) -> Path:
    """An image that no ticket names."""
    return tenant.seal("other", b"other").path


async def test_what_a_vm_has_left_is_not_forgotten_when_it_cannot_be_started_again(
    alpha: LiveNode, running: Running, tenant: Tenant, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its disks would stay for ever, and nobody could have them destroyed."""
    monkeypatch.setattr("tccp.node.vms.ENDED_KEPT_MAX", 0)
    alpha.hypervisor.vms[0].end("powered_off")
    await alpha.until(running.vm.vm_id, "ended")
    await alpha.node.desk.all_recorded()
    notes = alpha.node.vms._remains.folder
    assert notes is not None
    for _ in range(2):
        await fail_to_start(alpha, running, tenant, other)
    disk = tenant.seal("another", b"another")
    signed, _ = tenant.ticket([disk])
    await alpha.launch(ticket_file(signed), disk.path)  # what is over and has left nothing is forgotten now

    assert (notes / f"{running.vm.vm_id.hex()}.vm").exists()
    alpha.node.vms.destroy(alpha.node.vms.get(running.vm.vm_id))
    assert (await alpha.until(running.vm.vm_id, "destroyed")).epoch == 0
    assert alpha.node.vms.get(running.vm.vm_id).destruction

    await fail_to_start(alpha, running, tenant, other)
    assert alpha.node.vms.get(running.vm.vm_id).destruction  # for its tenant
    with pytest.raises(LaunchError, match="vm_not_released"):
        alpha.node.vms.destroy(alpha.node.vms.get(running.vm.vm_id))


async def test_the_file_of_a_suspended_state_is_still_shown_when_it_could_not_be_resumed(
    alpha: LiveNode, running: Running, tenant: Tenant, other: Path
) -> None:
    state = await running.suspend()

    await fail_to_start(alpha, running, tenant, other)

    assert alpha.node.vms.get(running.vm.vm_id).info().saved == str(state)
    assert (await running.resume(alpha, state))[0] == "running"
    assert alpha.node.vms.get(running.vm.vm_id).info().saved == ""
