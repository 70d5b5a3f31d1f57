"""Two admitted nodes that ask for keys, a tenant, and an image of hers."""

from pathlib import Path

import pytest

from tccp.node.registration import NodeTpm
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import LiveCoordinator


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, host: NodeTpm) -> AskingNode:
    """Admitted."""
    await coordinator.enrol("alpha", host)
    node = AskingNode(coordinator, "alpha", host)
    await node.register()
    return node


@pytest.fixture
async def beta(coordinator: LiveCoordinator, other_host: NodeTpm) -> AskingNode:
    """Another node, admitted."""
    await coordinator.enrol("beta", other_host)
    node = AskingNode(coordinator, "beta", other_host)
    await node.register()
    return node


@pytest.fixture
async def tenant(coordinator: LiveCoordinator, tmp_path: Path) -> Tenant:
    """Enrolled."""
    tenant = Tenant.of(tmp_path, coordinator)
    await tenant.enrol(coordinator)
    return tenant


@pytest.fixture
def disk(tenant: Tenant) -> SealedFile:
    """An image of the tenant."""
    return tenant.seal("disk", b"a disk of hers" * 1000)
