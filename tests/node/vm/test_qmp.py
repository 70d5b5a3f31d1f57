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
from tccp.node.vm.migration import query, take_in
from tccp.node.vm.mirror import Mirrors
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


# ---- whoever has broken out of a guest answers for QEMU: that is an error of this VM, never a bug


async def answer(peer: Peer, said: object) -> None:
    await peer.say({"return": said, "id": (await peer.command())["id"]})


SOME_JOB = {"len": 9, "offset": 8}


@pytest.mark.parametrize(
    "said",
    [None, 7, [], {"ram": []}, {"ram": {"total": "much"}}, {"downtime": True}, {"downtime": 1.5}, {"downtime": -1}],
    ids=str,
)
async def test_progress_of_another_shape_is_none(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery, said: object
) -> None:
    client, peer, _ = talking
    nursery.start_soon(answer, peer, said)
    with pytest.raises(HostError, match="qmp_malformed"):
        await query(client)


@pytest.mark.parametrize("said", [None, {}, [7], [{"len": 1}], [{**SOME_JOB, "len": []}], [SOME_JOB] * 2], ids=str)
async def test_jobs_of_another_shape_or_without_number_are_none(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery, said: object
) -> None:
    """Their sum goes to the other node, in 64 bits."""
    client, peer, _ = talking
    with client.listening("JOB_STATUS_CHANGE") as events:
        nursery.start_soon(answer, peer, [SOME_JOB])
        assert await Mirrors(client, 1, events).left() == (1, 9)

        nursery.start_soon(answer, peer, said)
        with pytest.raises(HostError, match="qmp_malformed"):
            await Mirrors(client, 1, events).left()


async def refuse(peer: Peer, error: str) -> None:
    """Answer a command by an *error*, which is JSON."""
    await peer.say(f'{{"error": {error}, "id": {(await peer.command())["id"]}}}\n'.encode())


@pytest.mark.parametrize("error", [7, [], None])
async def test_a_refusal_of_another_shape_is_none(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery, error: object
) -> None:
    client, peer, _ = talking
    nursery.start_soon(refuse, peer, json.dumps(error))
    with pytest.raises(HostError, match="qmp_malformed"):
        await client.execute("stop")


async def test_words_that_are_none_are_not_shown(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery
) -> None:
    """What is nested as deeply as a document may be is too deep to be shown from where it is shown."""
    client, peer, _ = talking
    deep = "[" * 900 + "]" * 900
    nursery.start_soon(refuse, peer, f'{{"desc": {deep}}}')
    with pytest.raises(HostError, match="without a word"):
        await client.execute("stop")


async def test_an_event_without_a_name_ends_every_call(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery
) -> None:
    client, peer, events = talking
    nursery.start_soon(peer.say, {"event": ["STOP"]})
    with pytest.raises(HostError, match="qmp_malformed"):
        await client.execute("stop")
    assert events == []


async def test_a_status_that_is_none_is_not_the_end(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery
) -> None:
    client, peer, events = talking

    async def migrate() -> None:
        for _ in range(3):
            await answer(peer, {})
        await peer.say(*({"event": "MIGRATION", "data": {"status": status}} for status in ([], {}, 1, "completed")))

    nursery.start_soon(migrate)
    reader, writer = os.pipe()
    await take_in(client, reader)
    os.close(reader)
    os.close(writer)
    assert len(events) == 4


async def test_a_status_that_is_none_ends_no_copy(
    talking: tuple[Qmp, Peer, list[QmpEvent]], nursery: trio.Nursery
) -> None:
    client, peer, events = talking

    async def cancel() -> None:
        await answer(peer, {})
        for status in ([], {}, "concluded"):
            await peer.say({"event": "JOB_STATUS_CHANGE", "data": {"id": ["copy0"], "status": status}})

    nursery.start_soon(cancel)
    with client.listening("JOB_STATUS_CHANGE") as heard:
        await Mirrors(client, 1, heard).finish()
    assert len(events) == 3
