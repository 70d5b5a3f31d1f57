"""States that a tenant lets her provider keep: with all of their disks or with none, and not lost by a move."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from tccp.node.launch import VmOrder
from tccp.node.vm_folder import VmFolder, kept_name, remove_live
from tests.node.running import Running, record_of
from tests.support.launching import Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode, is_under_way


@pytest.fixture
async def allowing(alpha: LiveNode, tenant: Tenant) -> Running:
    """Launched, by a ticket that lets the provider go back."""
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk], permissions=("rollback",))
    assert (await alpha.launch(ticket_file(signed), disk.path)).state == "running"
    return Running(alpha, disk, signed, vm)


# ---- the files


def two_disks(path: Path, *, generation: int = 0) -> VmFolder:
    """Of a VM that goes back to *generation*."""
    images = tuple(SimpleNamespace(role="disk") for _ in range(2))
    order = SimpleNamespace(
        images=images,
        keys=SimpleNamespace(generation=generation),
        ticket=SimpleNamespace(ticket=SimpleNamespace(permissions=("rollback",))),
        state=path,
    )
    return VmFolder(path, cast("VmOrder", order))


def write(folder: Path, **contents: str) -> None:
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_text(content)


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_disks_are_kept_all_of_them_or_none(tmp_path: Path) -> None:
    write(tmp_path, disk0_live="zero", disk1_live="one", roots="roots")
    obstacle = tmp_path / kept_name(1, "disk1.live")
    obstacle.mkdir()

    assert "disks_not_kept: Is a directory" in two_disks(tmp_path).keep_disks(1)
    assert read(tmp_path) == {"disk0.live": "zero", "disk1.live": "one", "roots": "roots"}

    obstacle.rmdir()
    assert two_disks(tmp_path).keep_disks(1) == ""
    assert read(tmp_path)[kept_name(1, "disk1.live")] == "one"


@pytest.mark.parametrize("missing", ["disk0.live", "disk1.live", "roots"])
def test_disks_are_put_back_all_of_them_or_none(tmp_path: Path, missing: str) -> None:
    """As when a daemon was killed while it copied them: one old disk beside a new one is a VM that never was."""
    write(tmp_path, disk0_live="zero", disk1_live="one", roots="roots")
    folder = two_disks(tmp_path, generation=1)
    folder.keep_disks(1)
    newer = {"disk0_live": "zero, newer", "disk1_live": "one, newer", "roots": "newer"}
    write(tmp_path, **newer)
    kept = tmp_path / kept_name(1, missing)
    content = kept.read_text()
    kept.unlink()

    folder._put_back(1)
    assert {name: read(tmp_path)[name.replace("_", ".")] for name in newer} == newer

    kept.write_text(content)
    folder._put_back(1)
    assert [read(tmp_path)[name] for name in ("disk0.live", "disk1.live", "roots")] == ["zero", "one", "roots"]


def test_what_a_move_has_brought_goes_and_what_was_kept_stays(tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    (folder / "vtpm").mkdir(parents=True)
    write(folder, disk0_live="zero", roots="roots")
    write(folder / "vtpm", state="state")
    write(folder, **{kept_name(1, "disk0_live"): "zero", "suspended-1_sealed": "memory"})

    assert remove_live(folder)
    assert set(read(folder)) == {kept_name(1, "disk0.live"), "suspended-1.sealed"}
    assert not (folder / "vtpm").exists()

    for path in folder.iterdir():
        path.unlink()
    assert not remove_live(folder)
    assert not folder.exists()


# ---- the node


async def test_a_snapshot_without_its_disks_is_none_and_whoever_wanted_it_is_told(
    alpha: LiveNode, allowing: Running
) -> None:
    alpha.hypervisor.vms[0].disks_problem = "disks_not_kept: No space left on device"

    alpha.node.vms.snapshot(alpha.node.vms.get(allowing.vm.vm_id))

    info = await alpha.until_told(allowing.vm.vm_id, lambda info: info.state == "running" and info.epoch == 2)
    assert (info.saved, info.detail) == ("", "disks_not_kept: No space left on device")


async def test_a_move_that_fails_takes_no_kept_state_along(
    coordinator: LiveCoordinator, alpha: LiveNode, beta: LiveNode, allowing: Running
) -> None:
    kept = await allowing.suspend()
    assert (await allowing.resume(beta, kept))[0] == "running"
    beta.hypervisor.vms[0].may_send = trio.Event()
    vm = alpha.node.vms.receive(allowing.ticket, [allowing.disk.path])
    await alpha.until_told(allowing.vm.vm_id, is_under_way)

    alpha.node.vms.give_up(vm)
    await alpha.until(allowing.vm.vm_id, "ended")
    with trio.fail_after(DEADLINE_S):
        await coordinator.until("stayed")
        while [path for path in alpha.hypervisor.folder.glob("alpha-*.state") if path != kept]:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert kept.exists()

    beta.hypervisor.vms[0].end("powered_off")
    await beta.until(allowing.vm.vm_id, "ended")
    await beta.node.desk.all_recorded()
    assert (await allowing.resume(alpha, kept))[0] == "running"
    assert (await record_of(coordinator, allowing)).node.value == "alpha"
