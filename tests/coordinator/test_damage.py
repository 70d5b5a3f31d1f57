"""Honest messages with some bytes changed: whatever comes of it, nobody is admitted by it and nobody is harmed."""

import contextlib
import random

import trio

from tccp.errors import ProtocolError
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame
from tccp.protocol.messages import RenewalChallenge
from tccp.transport.connection import RefusalError
from tccp.transport.errors import PeerGoneError
from tests.support.live_coordinator import HonestNode, LiveCoordinator

HELLOS, ANSWERS, RENEWALS = 100, 40, 20
NO = (RefusalError, PeerGoneError, ProtocolError)


def damaged(message: bytes, chance: random.Random) -> bytes:
    """The same length, as TLS would have delivered it from a liar, with one to four bytes changed."""
    changed = bytearray(message)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] ^= chance.randint(1, 255)
    return frame(bytes(changed))


async def says(node: HonestNode, data: bytes) -> bool:
    """Say it and end; whether the coordinator went on to the next message."""
    with contextlib.suppress(*NO), trio.move_on_after(5):
        await node.say(data)
        await node.connection.receive_any()
        return True
    node.leave()
    return False


async def test_damaged_messages_admit_nobody_and_harm_nobody(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    chance = random.Random(7)
    for _ in range(HELLOS):
        node = HonestNode(coordinator, "alpha", alpha.host)
        await node.connect()
        await says(node, damaged(encode(await node.hello()), chance))
    for _ in range(ANSWERS):
        node = HonestNode(coordinator, "alpha", alpha.host)
        answer = await node.answer(await node.get_challenge())
        assert not await says(node, damaged(encode(answer), chance))
    assert await coordinator.leases() == {}

    for _ in range(RENEWALS):
        node = HonestNode(coordinator, "alpha", alpha.host)
        await node.register()
        await coordinator.challenge_now("alpha")
        answer_again = await node.answer_renewal(await node.receive(RenewalChallenge))
        assert not await says(node, damaged(encode(answer_again), chance))
    assert await alpha.is_admitted()
    await coordinator.log()
