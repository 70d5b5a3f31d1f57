"""Who hears of a revocation, and what becomes of it in the log."""

import msgspec
import pytest
import trio

from tccp.protocol import control as c
from tccp.store import EventRecord
from tccp.transport.connection import RefusalError
from tests.support.live_coordinator import DEADLINE_S, HonestNode, LiveCoordinator


async def told(coordinator: LiveCoordinator) -> tuple[EventRecord, dict[str, object]]:
    """The event that says whether a node has heard."""
    with trio.fail_after(DEADLINE_S):
        async for event in coordinator.store.watch(0):
            if event.kind == "told":
                return event, msgspec.msgpack.decode(event.body)
    raise AssertionError


async def revoke(coordinator: LiveCoordinator, severity: str = "serious") -> None:
    request = msgspec.convert(["revoke_node", "alpha", "rootkit", severity], c.RevokeNode)
    await coordinator.ask(request, c.NodeInfo)


async def test_a_node_that_hears_and_leaves_is_known_to_have(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()
    await revoke(coordinator, "compromised")
    with pytest.raises(RefusalError, match="revoked"):
        await alpha.connection.receive_any()
    alpha.leave()

    event, body = await told(coordinator)

    log = await coordinator.log()
    revocation = log[int(str(body["log_index"]))]
    assert (revocation.kind, str(event.node), body["heard"]) == ("revoke", "alpha", "left")
    assert msgspec.msgpack.decode(revocation.body) == {"reason": "rootkit", "severity": "compromised"}


async def test_a_node_that_does_not_want_to_hear_is_cut_off(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await alpha.register()
    await revoke(coordinator)

    _, body = await told(coordinator)

    assert body["heard"] == "silent"
    assert len(coordinator.services.sessions) == 0
    assert "alpha" not in await coordinator.leases()


async def test_a_node_that_is_away_is_known_not_to_have_heard(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    await revoke(coordinator)

    assert (await told(coordinator))[1]["heard"] == "away"


async def test_a_revoked_node_gets_no_renewal_while_it_is_told(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    """It answers the challenge that was under way instead of leaving: the conversation is over."""
    await alpha.go_until("renewal challenge")
    await revoke(coordinator)
    assert coordinator.services.sessions.counters.renewals == 0

    _, body = await told(coordinator)

    assert body["heard"] in {"left", "silent"}
    assert coordinator.services.sessions.counters.renewals == 0
