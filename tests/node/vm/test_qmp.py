"""The client of QEMU's monitor against a peer that behaves as it likes."""

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from tccp.errors import HostError
from tccp.node.vm import qmp as qmp_module
from tccp.node.vm.qmp import Qmp, QmpEvent, parse_line

GREETING = {"QMP": {"version": {}, "capabilities": []}}


class Peer:
    """The other end: reads commands, says anything."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = trio.socket.from_stdlib_socket(end)
        self._buffer = b""

    async def say(self, *documents: object) -> None:
        for document in documents:
            await self.socket.send(document if isinstance(document, bytes) else json.dumps(document).encode() + b"\r\n")

    async def command(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._buffer += await self.socket.recv(65536)
        line, _, self._buffer = self._buffer.partition(b"\n")
        command: dict[str, Any] = json.loads(line)
        return command


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, Peer]]:
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    try:
        yield ours, peer
    finally:
        peer.socket.close()


@pytest.fixture
async def talking(nursery: trio.Nursery) -> AsyncIterator[tuple[Qmp, Peer, list[QmpEvent]]]:
    """A client that has negotiated, its peer, and the events so far."""
    events: list[QmpEvent] = []
    with pair() as (ours, peer):
        client = Qmp(ours, events.append)
        nursery.start_soon(client.run)
        nursery.start_soon(client.negotiate)
        await peer.say(GREETING)
        await peer.say({"return": {}, "id": (await peer.command())["id"]})
        yield client, peer, events
        nursery.cancel_scope.cancel()


async def test_each_caller_gets_its_own_answer_in_whatever_order(talking: tuple[Qmp, Peer, list[QmpEvent]]) -> None:
    client, peer, events = talking
    answers: dict[str, Any] = {}

    async def ask(command: str) -> None:
        answers[command] = await client.execute(command, {"x": command})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "one")
        nursery.start_soon(ask, "two")
        commands = [await peer.command() for _ in range(2)]
        await peer.say({"event": "STOP"}, {"event": "MIGRATION", "data": {"status": "active"}})
        for command in reversed(commands):
            assert command["arguments"] == {"x": command["execute"]}
            await peer.say({"return": command["execute"].upper(), "id": command["id"]})

    assert answers == {"one": "ONE", "two": "TWO"}
    assert events == [QmpEvent("STOP", {}), QmpEvent("MIGRATION", {"status": "active"})]


async def test_an_answer_that_nobody_waits_for_any_more_disturbs_nobody(
    talking: tuple[Qmp, Peer, list[QmpEvent]],
) -> None:
    client, peer, _ = talking
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.execute, "slow")
            late = await peer.command()
            scope.cancel()
    await peer.say({"return": "late", "id": late["id"]})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.execute, "next")
        await peer.say({"return": {}, "id": (await peer.command())["id"]})


async def test_a_qemu_that_does_not_answer_is_not_waited_for_without_end(
    talking: tuple[Qmp, Peer, list[QmpEvent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, peer, _ = talking
    monkeypatch.setattr(qmp_module, "ANSWER_S", 0.05)
    with pytest.raises(HostError, match="qmp_silent"):
        await client.execute("stop")

    # When it goes on it is served as before, and nobody takes the late answer for his.
    monkeypatch.undo()
    late = await peer.command()
    await peer.say({"return": {"late": True}, "id": late["id"]})
    async with trio.open_nursery() as nursery:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await client.execute("cont"))

        nursery.start_soon(ask)
        await peer.say({"return": {}, "id": (await peer.command())["id"]})
    assert answers == [{}]


async def test_a_refusal_of_qemu_comes_with_its_words(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery
) -> None:
    client, peer, _ = talking

    async def refuse() -> None:
        number = (await peer.command())["id"]
        await peer.say({"error": {"class": "GenericError", "desc": "no such device"}, "id": number})

    nursery.start_soon(refuse)
    with pytest.raises(HostError, match="no such device") as error:
        await client.execute("device_del")
    assert error.value.reason == "qmp_refused"


async def test_a_descriptor_goes_along_with_its_command(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery
) -> None:
    client, peer, _ = talking
    reader, writer = os.pipe()
    nursery.start_soon(lambda: client.execute("getfd", {"fdname": "m"}, descriptor=writer))
    _, rights, _, _ = await peer.socket.recvmsg(65536, socket.CMSG_SPACE(4))
    received = int.from_bytes(rights[0][2], "little")
    os.write(received, b"through")
    assert os.read(reader, 100) == b"through"
    for descriptor in (reader, writer, received):
        os.close(descriptor)


@pytest.mark.parametrize("nonsense", [b"not json\n", b"[1]\n", b"[" * 10_000 + b"\n", b"\xff\xfe\n"])
async def test_nonsense_of_qemu_ends_every_call(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery, nonsense: bytes
) -> None:
    client, peer, _ = talking

    async def disturb() -> None:
        await peer.command()
        await peer.say(nonsense)

    nursery.start_soon(disturb)
    for _ in range(2):
        with pytest.raises(HostError) as error:
            await client.execute("query-status")
        assert error.value.reason == "qmp_malformed"


async def test_a_line_without_end_is_not_collected_for_ever(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qmp_module, "LINE_BYTES_MAX", 1000)
    with pair() as (ours, peer):
        client = Qmp(ours, lambda _event: None)
        nursery.start_soon(client.run)
        await peer.say(b"x" * 2000)
        with pytest.raises(HostError) as error:
            await client.negotiate()
    assert error.value.reason == "qmp_malformed"


@pytest.mark.parametrize("greeting", [None, {"hello": 1}])
async def test_a_qemu_that_does_not_greet_is_none(nursery: trio.Nursery, greeting: object) -> None:
    with pair() as (ours, peer):
        client = Qmp(ours, lambda _event: None)
        nursery.start_soon(client.run)
        if greeting is None:
            peer.socket.close()
        else:
            await peer.say(greeting)
        with pytest.raises(HostError) as error:
            await client.negotiate()
    assert error.value.reason in {"qmp_gone", "qmp_malformed"}


def test_a_line_is_an_object() -> None:
    assert parse_line(b'{"event": "RESET"}') == {"event": "RESET"}
