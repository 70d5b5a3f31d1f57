"""The coordinator is killed between any two messages: nodes find back by themselves, and the record stays sound."""

import random
from collections.abc import Iterator

import pytest
import trio

from tccp.control.client import ControlClient
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.transport.connection import Connection
from tccp.transport.trust import parse_trust
from tests.support.live_coordinator import STEPS, HonestNode, open_host
from tests.support.perimeter import ZERO_PCR, Perimeter, ek_certificate
from tests.support.soft_tpm import SoftTpm, SoftTpmPool

ROUNDS = 4
NODES = 3


class Remote:
    """The coordinator's process, as an `HonestNode` needs it."""

    def __init__(self, perimeter: Perimeter) -> None:
        trust = perimeter.ask(c.GetTrust(), c.TrustFile)
        assert isinstance(trust, c.TrustFile)
        self.perimeter, self.port, self.trust = perimeter, perimeter.port, parse_trust(trust.body)
        self.connections: list[Connection] = []

    async def challenge_now(self, name: str) -> None:
        await trio.to_thread.run_sync(self.perimeter.ask, c.SetNodePolicy(name=name, policy="tvmm"), c.NodeInfo)

    def node(self, name: str, host: NodeTpm) -> HonestNode:
        return HonestNode(self, name, host)  # type: ignore[arg-type]


def open_leases_by_the_log(perimeter: Perimeter) -> dict[str, str]:
    """The open leases by node, as the log tells them: it has no holes, and no node ever had two at once."""
    with ControlClient(perimeter.control) as client:
        events = list(client.stream(c.WatchEvents(since=0, follow=False), c.Event))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    leases: dict[str, str] = {}
    for event in events:
        if event.kind == "admit":
            assert event.node not in leases
            leases[event.node] = str(event.fields["lease_id"])
        if event.kind == "end":
            assert leases.pop(event.node) == event.fields["lease_id"]
    return leases


@pytest.fixture(scope="module")
def walker(perimeter: Perimeter, soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """The TPM of a node that is enrolled as walker."""
    with soft_tpms.lend() as soft_tpm:
        certificate = ek_certificate(soft_tpm)
        request = c.EnrolNode(name="walker", ek_certificate=certificate, ek_public=b"", policy="tvmm", attributes={})
        perimeter.ask(request, c.NodeInfo)
        yield soft_tpm


@pytest.mark.parametrize("step", STEPS)
async def test_the_coordinator_may_be_killed_after_any_message(
    step: str, perimeter: Perimeter, walker: SoftTpm
) -> None:
    async with open_host(walker) as host:
        remote = Remote(perimeter)
        before, after = remote.node("walker", host), remote.node("walker", host)
        await before.go_until(step)
        perimeter.coordinator.kill()
        perimeter.coordinator.start()

        await after.register()
        await after.renew()
        assert open_leases_by_the_log(perimeter)["walker"] == after.lease_id.hex()
        for connection in remote.connections:
            connection.close()


def test_daemons_find_back_to_a_coordinator_that_is_killed_at_any_time(perimeter: Perimeter) -> None:
    nodes = [perimeter.make_node(f"node-{number}") for number in range(NODES)]
    for node in nodes:
        node.daemon.start()
    chance = random.Random(7)
    for _ in range(ROUNDS):
        for node in nodes:
            node.wait_for_state("admitted")
        trio.run(trio.sleep, chance.uniform(0.0, 1.0))  # anywhere between two renewals
        perimeter.coordinator.kill()
        perimeter.coordinator.start()
    for node in nodes:
        perimeter.wait_for(node.name, lambda info: info.state == "admitted" and info.connected, "is back")
    assert {node.name for node in nodes} <= set(open_leases_by_the_log(perimeter))
    for node in nodes:
        assert node.daemon.stop() == 0


def test_a_policy_and_a_revocation_survive_the_kill(perimeter: Perimeter) -> None:
    perimeter.add_policy("survives", {0: ZERO_PCR})
    node = perimeter.make_node("survivor", policy="survives")
    perimeter.ask(c.RevokeNode(name=node.name, reason="sold"), c.NodeInfo)
    perimeter.coordinator.kill()
    perimeter.coordinator.start()

    node.daemon.start()
    node.daemon.wait_until(lambda: "revoked" in node.status().last_error, "it is told")
    assert perimeter.node_info(node.name).state == "revoked"
