"""The link between coordinator and worker, without either: what is not listened to, and who is given up."""

import socket

import pytest
import trio

from tccp.coordinator.workers.link import Kind, Link
from tccp.errors import HostError


@pytest.mark.parametrize("nonsense", [b"\0\0\0\0\xff\0\0\0\0", b"\xff\xff\xff\xff\x04\0\0\0\1"])
async def test_a_worker_that_says_what_it_cannot_say_is_not_listened_to(nonsense: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(nonsense)
        link = Link(ours, on_full=lambda: None)
        with pytest.raises(HostError, match="worker_link"):
            async for _ in link.frames():
                pass


async def test_who_does_not_read_the_link_is_given_up_before_memory_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        gave_up = trio.Event()
        link = Link(ours, on_full=gave_up.set)
        for _ in range(100):
            link.say(Kind.DATA, 1, bytes(1 << 20))
        assert gave_up.is_set()
        await link.room()  # and nobody waits for it
