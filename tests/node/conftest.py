"""The TPMs and hosts of the coordinator's tests; a coordinator, a tenant, two nodes, and a VM on one of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tccp.node.registration import NodeTpm
from tests.coordinator.conftest import coordinator_tpm, host, host_tpm, other_host, other_tpm
from tests.node.running import CONTENT, Running
from tests.support.launching import SealedFile, Tenant, ticket_file
from tests.support.live_coordinator import ZERO, LiveCoordinator, live_coordinator
from tests.support.live_node import LiveNode, live_node
from tests.support.soft_tpm import SoftTpm

__all__ = ["coordinator_tpm", "host", "host_tpm", "other_host", "other_tpm"]


@pytest.fixture
def lease_s() -> int:
    """How long leases hold: longer than any test, but where one waits for their end and is parametrised with less."""
    return 60


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path, lease_s: int) -> AsyncIterator[LiveCoordinator]:
    """Running, with a policy."""
    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=lease_s) as running:
        await running.add_policy({0: ZERO, 4: ZERO})
        yield running


@pytest.fixture
async def tenant(coordinator: LiveCoordinator, tmp_path: Path) -> Tenant:
    """Enrolled."""
    tenant = Tenant.of(tmp_path, coordinator)
    await tenant.enrol(coordinator)
    return tenant


@pytest.fixture
def disk(tenant: Tenant) -> SealedFile:
    """An image of the tenant."""
    return tenant.seal("disk", CONTENT)


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, host: NodeTpm, tmp_path: Path) -> AsyncIterator[LiveNode]:
    """Admitted."""
    await coordinator.enrol("alpha", host)
    async with live_node(coordinator, "alpha", host, tmp_path) as node:
        yield node


@pytest.fixture
async def beta(coordinator: LiveCoordinator, other_host: NodeTpm, tmp_path: Path) -> AsyncIterator[LiveNode]:
    """Another node, admitted."""
    await coordinator.enrol("beta", other_host)
    async with live_node(coordinator, "beta", other_host, tmp_path) as node:
        yield node


@pytest.fixture
async def running(alpha: LiveNode, tenant: Tenant, disk: SealedFile) -> Running:
    """Launched."""
    signed, vm = tenant.ticket([disk])
    assert (await alpha.launch(ticket_file(signed), disk.path)).state == "running"
    return Running(alpha, disk, signed, vm)
