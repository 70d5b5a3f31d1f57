"""The port for tenants is open to everybody: whoever misuses it harms himself."""

import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tccp.errors import HostError, ProtocolError, RefusedError
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame
from tccp.protocol.tenant_messages import Activate, GetHead, GetTile, TenantHello
from tccp.tenant.connection import TenantConnection
from tccp.tenant.log_source import HttpSource
from tccp.transparency.tile import Tile
from tccp.transport.public_log import open_public_log
from tccp.transport.tls import SERVER_NAME, tenant_context
from tests.support.live_coordinator import HOST, LiveCoordinator
from tests.support.soft_tpm import SoftTpm
from tests.support.tenants import Tenant, coordinator_with_log, policy_for

HELLO = frame(encode(TenantHello(1, bytes(32))))


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    async with coordinator_with_log(tmp_path, coordinator_tpm) as running:
        yield running


def connect(coordinator: LiveCoordinator) -> ssl.SSLSocket:
    plain = socket.create_connection((HOST, coordinator.tenants_port), 30)
    return tenant_context(None).wrap_socket(plain, server_hostname=SERVER_NAME)


def answer_to(coordinator: LiveCoordinator, *parts: bytes) -> bytes:
    """All that comes back until the coordinator has had enough."""
    with connect(coordinator) as stream:
        for part in parts:
            stream.sendall(part)
        received = bytearray()
        try:
            while data := stream.recv(65_536):
                received += data
        except ssl.SSLEOFError:  # it says no goodbye
            pass
        return bytes(received)


@pytest.mark.parametrize(
    "words",
    [
        b"\0\0\0\0",
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"\xc0"),
        frame(os.urandom(1024)),
        frame(encode(GetTile(0, 0, 3))),
        frame(encode(Activate(b"x", b"y"))),
        frame(encode(TenantHello(1, bytes(32)))[:-1]),
    ],
)
async def test_whatever_is_no_first_word_is_answered_by_nothing(words: bytes, coordinator: LiveCoordinator) -> None:
    assert await trio.to_thread.run_sync(answer_to, coordinator, words) == b""


@pytest.mark.parametrize("second", [HELLO, frame(encode(GetHead())), b"\0\0\0\0"])
async def test_who_speaks_out_of_turn_is_cut_off(second: bytes, coordinator: LiveCoordinator) -> None:
    received = await trio.to_thread.run_sync(answer_to, coordinator, HELLO, second)

    assert received.count(b"introduction") == 1
    assert int.from_bytes(received[:4], "big") == len(received) - 4


async def test_another_version_is_refused_with_a_reason(coordinator: LiveCoordinator) -> None:
    hello = frame(encode(TenantHello(2, bytes(32))))

    assert b"protocol_version" in await trio.to_thread.run_sync(answer_to, coordinator, hello)


async def test_strangers_who_say_nothing_keep_nobody_waiting(
    coordinator: LiveCoordinator, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    silent = [socket.create_connection((HOST, coordinator.tenants_port)) for _ in range(50)]
    try:
        await Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path)).add(coordinator.tenants_port)
    finally:
        for each in silent:
            each.close()


async def test_a_credential_of_nobodys_is_refused_and_the_next_tenant_served(
    coordinator: LiveCoordinator, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    activate = frame(encode(Activate(os.urandom(70), os.urandom(70))))

    for _ in range(3):
        assert b"activation_refused" in await trio.to_thread.run_sync(answer_to, coordinator, HELLO, activate)
    await Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path)).add(coordinator.tenants_port)


async def test_a_tile_that_is_not_there_is_no_harm(coordinator: LiveCoordinator) -> None:
    for tile in (Tile(7, 0), Tile(0, (1 << 55) - 1, 1), Tile(0, 0, 200)):
        public = await open_public_log(HOST, coordinator.tenants_port)
        await public.head()
        with pytest.raises(RefusedError, match="unavailable"):
            await public.read_tile(tile)
        public.close()


# ---- and a server that misuses its client


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server((HOST, 0))


async def test_a_server_that_speaks_no_tls_is_an_error_and_not_a_hang(listener: socket.socket) -> None:
    def serve() -> None:
        with listener, listener.accept()[0] as stream:
            stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, serve)
        with pytest.raises((ProtocolError, HostError)):
            await trio.to_thread.run_sync(TenantConnection.open, HOST, listener.getsockname()[1])


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 301 There\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"nothing that is HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"",
    ],
)
async def test_a_server_of_a_log_that_answers_nonsense_is_an_error(response: bytes, listener: socket.socket) -> None:
    def serve() -> None:
        with listener:
            for _ in range(2):
                with listener.accept()[0] as stream:
                    stream.recv(65_536)
                    stream.sendall(response)

    port = listener.getsockname()[1]

    def fetch() -> None:
        source = HttpSource(f"http://{HOST}:{port}/log/")
        try:
            source.read_checkpoint()
        finally:
            source.close()
            with contextlib.suppress(ConnectionError):  # the second connection, if it was not made
                socket.create_connection((HOST, port)).close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, serve)
        with pytest.raises(HostError, match="unreachable"):
            await trio.to_thread.run_sync(fetch)
