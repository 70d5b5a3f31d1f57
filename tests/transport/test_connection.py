"""TLS between nodes and coordinators over real sockets: keys in memory, refusals, peers that vanish or do not read."""

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import ProtocolError
from tccp.model import spki_sha256
from tccp.protocol.messages import Hello, Refused, RenewalChallenge
from tccp.protocol.session import Role, Session
from tccp.transport.certificates import (
    COORDINATOR_HOST,
    Authority,
    KeyPair,
    fresh_key,
    key_pem,
    node_host,
    pem_of,
    spki_of_key,
)
from tccp.transport.connection import Connection, RefusalError, handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import SERVER_NAME, coordinator_context, node_context
from tccp.transport.tls_stream import TlsStream

NOW = dt.datetime.now(tz=dt.UTC)
DEADLINE_S = 60.0
HELLO = Hello(1, bytes(32), b"", (), bytes(16), bytes(16))


class World:
    """An authority, a door, and who was issued what."""

    def __init__(self) -> None:
        self.ca_pair = Authority.create("CA", now=NOW)
        self.door_pair = Authority.create("door", now=NOW)
        self.ca, self.door = Authority(self.ca_pair), Authority(self.door_pair)

    def issue(self, authority: Authority, host: str, *, hours: int = 1, server: bool = True) -> KeyPair:
        key = fresh_key()
        certificate = authority.issue(
            spki_of_key(key),
            host,
            not_before=NOW - dt.timedelta(hours=2),
            not_after=NOW + dt.timedelta(hours=hours),
            server=server,
            client=True,
        )
        return KeyPair(certificate=pem_of(certificate), key=key_pem(key))

    def at_the_coordinator(self, own: KeyPair | None = None) -> ssl.SSLContext:
        authorities = [self.ca_pair.certificate, self.door_pair.certificate]
        return coordinator_context(own or self.issue(self.ca, COORDINATOR_HOST), authorities)

    def at_the_node(self, own: KeyPair | None = None) -> ssl.SSLContext:
        return node_context(own or self.issue(self.door, node_host("alpha"), server=False), self.ca_pair.certificate)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@asynccontextmanager
async def connected(server: ssl.SSLContext, client: ssl.SSLContext) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    """Both ends of one connection over a real socket."""
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    ends: dict[str, TlsStream] = {}

    async def serve(stream: trio.SocketStream) -> None:
        ends["server"] = await handshake(stream, server, server_side=True)

    async with listener:
        stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        try:
            with trio.fail_after(DEADLINE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve, await listener.accept())
                    ends["client"] = await handshake(stream, client, server_side=False, server_name=SERVER_NAME)
            yield ends["server"], ends["client"]
        finally:
            for end in ends.values():
                end.close()


async def test_a_coordinator_and_a_node_agree_and_know_each_others_keys(world: World) -> None:
    async with connected(world.at_the_coordinator(), world.at_the_node()) as (server, client):
        client.send_nowait(b"hello")
        assert await server.receive() == b"hello"
        ours, theirs = (
            Connection(end, Session(role), own_spki_sha256=bytes(32))
            for end, role in ((server, Role.COORDINATOR), (client, Role.NODE))
        )
        assert ours.peer_spki_sha256 == spki_sha256(ours.peer_spki) != theirs.peer_spki_sha256


def test_private_keys_are_in_no_file(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def remember(context: ssl.SSLContext, path: str) -> None:
        loaded.append(str(Path(path).readlink()))
        load(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", remember)
    world.at_the_coordinator()
    world.at_the_node()

    assert len(loaded) == 2
    assert all(name.startswith("/memfd:") for name in loaded)


async def test_a_no_is_never_taken_for_an_answer(world: World) -> None:
    async with connected(world.at_the_coordinator(), world.at_the_node()) as (server, client):
        coordinator = Connection(server, Session(Role.COORDINATOR), own_spki_sha256=bytes(32))
        node = Connection(client, Session(Role.NODE), own_spki_sha256=bytes(32))
        await node.send(HELLO)
        await coordinator.receive(Hello)
        await coordinator.send(Refused(reason="not_enrolled"))

        with pytest.raises(RefusalError, match="not_enrolled"):
            await node.receive(RenewalChallenge)
        with pytest.raises(PeerGoneError):
            await coordinator.send(Refused(reason="not_enrolled"))  # that conversation is over


async def test_a_connection_that_ends_within_a_message_is_told_from_one_that_ends(world: World) -> None:
    for sent, reason in ((b"\0\0\1\0half", "truncated"), (b"", "peer_gone")):
        async with connected(world.at_the_coordinator(), world.at_the_node()) as (server, client):
            coordinator = Connection(server, Session(Role.COORDINATOR), own_spki_sha256=bytes(32))
            if sent:
                client.send_nowait(sent)
            client.close()
            with pytest.raises((ProtocolError, PeerGoneError), match=reason):
                await coordinator.receive(Hello)


async def test_who_does_not_read_is_given_up_and_not_waited_for(world: World) -> None:
    async with connected(world.at_the_coordinator(), world.at_the_node()) as (server, _):
        while server.send_nowait(bytes(64 * 1024)):
            pass
        with pytest.raises(PeerGoneError, match="does not read"):
            server.send_nowait(bytes(2 << 20))


async def test_who_waits_to_send_is_woken_when_the_connection_is_closed(world: World) -> None:
    async with connected(world.at_the_coordinator(), world.at_the_node()) as (server, _):
        while server.send_nowait(bytes(16 * 1024)):
            pass
        async with trio.open_nursery() as nursery:

            async def flush() -> None:
                with pytest.raises(PeerGoneError):
                    await server.flush()

            nursery.start_soon(flush)
            await trio.testing.wait_all_tasks_blocked()
            server.close()


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "control"])
async def test_no_handshake_is_begun_with_those_who_left_while_they_waited(
    looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not looks:
        monkeypatch.setattr("tccp.transport.connection.has_left", lambda _: False)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
        await client.send_all(b"what is no TLS, and would be read")
        await client.aclose()
        with pytest.raises(PeerGoneError if looks else ProtocolError):
            await handshake(await listener.accept(), World().at_the_coordinator(), server_side=True)
