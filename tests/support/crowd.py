"""A few nodes of `bench.load` inside a test: real keys and signatures, TPMs of Python's own that cost nothing."""

from pathlib import Path
from typing import TypeVar

import trio

from bench.load.nodes import LoadNode, enrol_all, register_all
from tccp.protocol.messages import AnyMessage, RenewalChallenge, Renewed
from tccp.protocol.session import expect
from tests.support.live_coordinator import DEADLINE_S, POLICY, LiveCoordinator

M = TypeVar("M", bound=AnyMessage)


async def join(coordinator: LiveCoordinator, *names: str) -> list[LoadNode]:
    """Nodes with these names, enrolled and admitted."""
    nodes = [LoadNode(name) for name in names]
    control = Path(coordinator.services.config.control.socket)
    trust = await trio.to_thread.run_sync(enrol_all, control, nodes, POLICY)
    with trio.fail_after(DEADLINE_S):
        assert await register_all(coordinator.port, nodes, trust) == []
    coordinator.connections.extend(node.connection for node in nodes)
    return nodes


async def hear(node: LoadNode, kind: type[M]) -> M:
    """What the coordinator says next."""
    with trio.fail_after(DEADLINE_S):
        return expect(await node.connection.receive_any(), kind)


async def renew(coordinator: LiveCoordinator, node: LoadNode) -> None:
    """Be challenged at once, answer, and be renewed."""
    await coordinator.challenge_now(node.identity.name)
    node.answer(await hear(node, RenewalChallenge))
    await hear(node, Renewed)
