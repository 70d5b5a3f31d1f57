"""Whoever waits for the coordinator gets the answer, or gives up, and nobody else's answer is lost by that."""

from typing import Any, cast

import pytest
import trio
import trio.testing

from tccp.image.keys import RecipientSecretKey
from tccp.node.key_desk import KeyDesk
from tccp.protocol.messages import KeyRelease, KeyRequest, VmEnded, VmMarked, VmMarksRecorded


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


class Line:
    """A connection that takes everything at once."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def push(self) -> bool:
        return True

    def send_nowait(self, message: object) -> bool:
        self.said.append(message)
        return True


async def test_keys_that_come_in_the_moment_in_which_their_asker_gives_up_are_given_back() -> None:
    desk, line, given_up = KeyDesk(RecipientSecretKey.from_seed(bytes(32))), Line(), trio.CancelScope()
    desk.attach(cast("Any", line))

    async def ask() -> None:
        with given_up:
            await desk.request_keys(cast("Any", None), b"a ticket", bytes(64))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        (request,) = line.said
        assert isinstance(request, KeyRequest)

        given_up.cancel()
        desk.take(KeyRelease(request.nonce, bytes(16), 7, b"", b"", 0, b"", b"", b""), bytes(16))

    assert line.said[1:] == [VmEnded(bytes(16), 7, b"", b"", "not_started")]


async def test_of_vms_that_were_released_long_ago_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tccp.node.key_desk.RELEASES_KEPT_MAX", 2)
    desk, line = KeyDesk(RecipientSecretKey.from_seed(bytes(32))), Line()
    desk.attach(cast("Any", line))

    for number in (1, 2, 1, 3, 3):  # the second of each is another answer to the same request, and gives nothing back
        desk.take(KeyRelease(bytes(32), bytes([number]) * 16, 7, b"", b"", 0, b"", b"", b""), bytes(16))

    assert [said.vm_id[0] for said in line.said] == [1, 2, 3]
    assert len(desk._newest) == 2
