"""Whoever waits for the coordinator gets the answer, or gives up, and nobody else's answer is lost by that."""

import trio
import trio.testing

from tccp.image.keys import RecipientSecretKey
from tccp.node.key_desk import KeyDesk
from tccp.protocol.messages import VmMarked, VmMarksRecorded


async def test_what_is_said_anew_is_answered_to_whoever_said_it_last() -> None:
    desk = KeyDesk(RecipientSecretKey.from_seed(bytes(32)))
    said = VmMarked(bytes(16), 1, bytes(40))
    answers = []

    async def last() -> None:
        answers.append(await desk.recorded(said))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.recorded, said)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(last)
        await trio.testing.wait_all_tasks_blocked()
        answer = VmMarksRecorded(bytes(16), 1, bytes(40))

        desk.take(answer, bytes(16))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert answers == [answer]
