"""One host cannot have all the places: a limit for each address, attacked from loopback addresses of Linux."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from tccp.measures import Tally
from tccp.transport.accepting import serve_connections
from tccp.transport.addresses import UNKNOWN, PerAddress, place_of

PLACES, EACH = 4, 2
ATTACKER, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", UNKNOWN),
        ("/run/socket", UNKNOWN),
    ],
)
def test_addresses_are_counted_by_place(address: str, place: str) -> None:
    assert place_of(address) == place


def test_whoever_has_a_network_of_ipv6_has_one_place() -> None:
    counted = PerAddress(EACH, "tenants", refused := Tally())
    for host in range(EACH):
        assert counted.take(place_of(f"2001:db8::{host}"))

    assert not counted.take(place_of("2001:db8::ffff"))
    assert counted.take(place_of("2001:db8:0:1::1"))
    assert refused.by_name == {"tenants": 1}


def test_an_address_that_has_left_stays_in_nobodys_memory() -> None:
    counted = PerAddress(EACH, "tenants", Tally())
    assert counted.take("192.0.2.7")
    counted.release("192.0.2.7")

    assert not counted._connected


# ---- the attack, and the same without the defence ----


Connect = Callable[[str], Awaitable[trio.SocketStream]]


@asynccontextmanager
async def serving(per_address: PerAddress | None) -> AsyncIterator[Connect]:
    """What connects, from an address, to a server that says hello to each and then waits until they leave."""

    async def serve_one(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"hello")
            await stream.receive_some(1)

    listener, *_ = await trio.open_tcp_listeners(0, host="0.0.0.0")  # noqa: S104 - loopback has many addresses
    port = listener.socket.getsockname()[1]
    async with listener, AsyncExitStack() as connected, trio.open_nursery() as nursery:

        async def connect(address: str) -> trio.SocketStream:
            sock = trio.socket.socket(socket.AF_INET)
            await sock.bind((address, 0))
            await sock.connect(("127.0.0.1", port))
            return await connected.enter_async_context(trio.SocketStream(sock))

        nursery.start_soon(
            lambda: serve_connections([listener], serve_one, connections_max=PLACES, per_address=per_address)
        )
        with trio.fail_after(60):
            yield connect
        nursery.cancel_scope.cancel()


async def greeting(stream: trio.SocketStream) -> bytes:
    """What the server says first; empty when it closes."""
    try:
        return bytes(await stream.receive_some(16))
    except trio.BrokenResourceError:
        return b""


async def test_who_takes_all_that_there_is_leaves_places_for_others() -> None:
    async with serving(PerAddress(EACH, "tenants", Tally())) as connect:
        held = [await connect(ATTACKER) for _ in range(2 * PLACES)]
        greetings = [await greeting(stream) for stream in held]

        assert greetings.count(b"hello") == EACH
        assert await greeting(await connect(OTHER)) == b"hello"


async def test_without_the_limit_others_would_wait() -> None:
    async with serving(None) as connect:
        held = [await connect(ATTACKER) for _ in range(PLACES)]
        assert [await greeting(stream) for stream in held] == [b"hello"] * PLACES
        other = await connect(OTHER)
        await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(BlockingIOError):
            other.socket._sock.recv(1)


async def test_whoever_leaves_can_come_again() -> None:
    async with serving(PerAddress(EACH, "tenants", Tally())) as connect:
        for _ in range(3 * EACH):
            stream = await connect(ATTACKER)
            assert await greeting(stream) == b"hello"
            await stream.send_eof()
            assert await greeting(stream) == b""
