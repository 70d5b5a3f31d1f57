"""A running coordinator with the policy that a TPM as it comes fulfils, and one host that is enrolled as alpha."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tccp.node.registration import NodeTpm
from tests.support.live_coordinator import ZERO, HonestNode, LiveCoordinator, live_coordinator, open_host
from tests.support.soft_tpm import SoftTpm, SoftTpmPool


@pytest.fixture(scope="session")
def coordinator_tpm(soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """The coordinator's TPM: nothing happens to it, so that it serves all tests."""
    with soft_tpms.lend() as lent:
        yield lent


@pytest.fixture(scope="session")
def host_tpm(soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """A host's TPM, likewise; a test that extends PCRs or resets takes one of its own."""
    with soft_tpms.lend() as lent:
        yield lent


@pytest.fixture(scope="session")
def other_tpm(soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """Another host's TPM, likewise."""
    with soft_tpms.lend() as lent:
        yield lent


@pytest.fixture(scope="session")
def other_coordinator_tpm(soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """The TPM of a second coordinator."""
    with soft_tpms.lend() as lent:
        yield lent


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """Running, with a policy, and with no node yet."""
    async with live_coordinator(tmp_path, coordinator_tpm) as running:
        await running.add_policy({0: ZERO, 4: ZERO})
        yield running


@pytest.fixture
async def host(host_tpm: SoftTpm) -> AsyncIterator[NodeTpm]:
    """The keys of the TPM of alpha."""
    async with open_host(host_tpm) as opened:
        yield opened


@pytest.fixture
async def other_host(other_tpm: SoftTpm) -> AsyncIterator[NodeTpm]:
    """The keys of a TPM that is not enrolled."""
    async with open_host(other_tpm) as opened:
        yield opened


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, host: NodeTpm) -> HonestNode:
    """An honest node, enrolled and not connected yet."""
    await coordinator.enrol("alpha", host)
    return HonestNode(coordinator, "alpha", host)
