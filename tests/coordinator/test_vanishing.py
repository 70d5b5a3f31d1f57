"""Nodes that vanish after any message, one of them or many: nothing stays behind but a lease that lapses."""

import pytest
import trio

from tests.support.live_coordinator import STEPS, HonestNode, LiveCoordinator


@pytest.mark.parametrize("step", STEPS)
async def test_a_node_may_vanish_after_any_message(step: str, coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.go_until(step)
    alpha.leave()

    again = HonestNode(coordinator, "alpha", alpha.host)
    assert await again.is_admitted()
    await again.renew()
    assert len(await coordinator.leases()) == 1
    assert len(coordinator.services.sessions) == 1
    await coordinator.log()


async def test_a_node_that_begins_again_and_again_gets_one_lease(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    nodes = [HonestNode(coordinator, "alpha", alpha.host) for _ in range(10)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.register)

    (lease,) = (await coordinator.leases()).values()
    (newest,) = [node for node in nodes if node.lease_id == lease.lease_id]
    await newest.renew()
    ends = [event for event in await coordinator.log() if event.kind == "end"]
    assert len(ends) == len(nodes) - 1
