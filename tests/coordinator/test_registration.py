"""Admission as it should go."""

from tests.support.live_coordinator import HonestNode, LiveCoordinator


async def test_an_honest_node_is_admitted(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    admitted = await alpha.register()

    lease = (await coordinator.leases())["alpha"]
    assert lease.lease_id == admitted.lease_id
    assert lease.identity == alpha.identity.statement
    event = (await coordinator.log())[alpha.admission.index]
    assert (event.kind, str(event.node)) == ("admit", "alpha")


async def test_an_honest_node_renews_its_lease_again_and_again(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()
    ends = [(await coordinator.leases())["alpha"].expires_ms]
    for _ in range(3):
        await alpha.renew()
        ends.append((await coordinator.leases())["alpha"].expires_ms)

    assert ends == sorted(ends)
    assert len(set(ends)) > 1
