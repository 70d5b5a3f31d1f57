"""HTTP over real sockets and TLS: what strangers send, how much of it, and how slowly."""

import datetime as dt
import http.client
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import HostError, ProtocolError
from tccp.transport.accepting import serve_connections
from tccp.transport.certificates import Authority, KeyPair, fresh_key, key_pem, pem_of, spki_of_key
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import (
    HttpLimits,
    HttpRequest,
    HttpResponse,
    exchange_http,
    serve_http,
    text_response,
)
from tccp.transport.tls import public_context

LIMITS = HttpLimits(head_bytes_max=2_048, body_bytes_max=1_000, requests_max=5)
NOW = dt.datetime.now(tz=dt.UTC)


async def echo(request: HttpRequest) -> HttpResponse:
    if request.target == "/fails":
        raise HostError("disk_full", "of the sort that is not told")
    return HttpResponse(200, f"{request.method} {request.target} ".encode() + request.body, (("x-kind", "echo"),))


@asynccontextmanager
async def serving(
    serve_one: Callable[[trio.SocketStream], Awaitable[None]], *, connections_max: int = 4
) -> AsyncIterator[int]:
    """The port at which *serve_one* serves."""
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_connections([listener], serve_one, connections_max=connections_max))
        with trio.fail_after(60):
            yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(limits: HttpLimits = LIMITS) -> AsyncIterator[trio.SocketStream]:
    """A stream to a server of `echo`."""

    async def serve_one(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(PeerGoneError):
                await serve_http(stream, echo, limits)

    async with serving(serve_one) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield stream


async def everything(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        while data := await stream.receive_some(65_536):
            received += data
    except trio.BrokenResourceError:
        pass
    return received


async def ask(request: bytes, limits: HttpLimits = LIMITS) -> bytes:
    async with connected(limits) as stream:
        await stream.send_all(request)
        await stream.send_eof()
        return await everything(stream)


async def test_a_request_is_answered_and_the_connection_kept() -> None:
    async with connected() as stream:
        for number in range(3):
            await stream.send_all(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number)
            answer = b""
            while not answer.endswith(b"GET /%d " % number):
                answer += await stream.receive_some(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"x-kind: echo\r\n" in answer


async def test_requests_that_come_at_once_are_answered_in_their_order() -> None:
    request = b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"

    answer = await ask(b"".join(request % number for number in range(4)))

    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 ")[1:]]
    assert bodies == [b"POST /%d abc" % number for number in range(4)]


async def test_a_connection_carries_so_many_requests_and_no_more() -> None:
    answer = await ask(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 20)

    assert answer.count(b"HTTP/1.1 200 ") == LIMITS.requests_max


async def test_head_gets_the_headers_of_get_and_no_body() -> None:
    answer = await ask(b"HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 8\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_body_in_chunks_is_put_together() -> None:
    head = b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"

    assert (await ask(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).endswith(b"POST /c abcde")


async def test_one_who_asks_whether_to_go_on_is_told() -> None:
    async with connected() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n")
        assert (await stream.receive_some(65_536)).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"x")
        assert (await stream.receive_some(65_536)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no host
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\nx\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 5_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 5_000, b"431"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 64 + b"\r\n", b"431"),
        (b"GET /" + b"y" * 5_000, b"431"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n" + b"z" * 1_001, b"413"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nz", b"413"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nz\r\n" * 1_001, b"413"),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", b"405"),
        (b"GET /fails HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"500"),
    ],
)
async def test_what_is_too_much_or_no_http_is_refused_in_words(request_bytes: bytes, status: bytes) -> None:
    answer = await ask(request_bytes)

    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"not told" not in answer


async def test_control_without_the_limit_on_bodies_the_same_request_is_taken() -> None:
    request = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1001\r\n\r\n" + b"z" * 1_001

    assert (await ask(request, HttpLimits())).startswith(b"HTTP/1.1 200 ")


async def test_the_end_of_a_connection_within_a_request_is_no_request() -> None:
    answer = await ask(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")

    assert b"200" not in answer.split(b"\r\n")[0]


@given(st.binary(max_size=300))
def test_no_bytes_make_the_server_fail(data: bytes) -> None:
    async def serve() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data)
        await theirs.send_eof()
        with suppress(PeerGoneError):
            await serve_http(ours, echo, LIMITS)

    trio.run(serve, clock=trio.testing.MockClock(autojump_threshold=0))


# ---- slowly: trio's clock jumps when nothing happens


async def lasts(
    act: Callable[[trio.testing.MemorySendStream | trio.StapledStream], Awaitable[None]],
    limits: HttpLimits,
) -> tuple[float, str]:
    """How long the server bears with a peer that does this and then nothing, and how it ends."""
    ours, theirs = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act, theirs)
        try:
            await serve_http(ours, echo, limits)
        except PeerGoneError as problem:
            return trio.current_time() - began, problem.detail
        finally:
            nursery.cancel_scope.cancel()
    return trio.current_time() - began, ""


@pytest.mark.parametrize(
    ("first", "then", "bearable_s"),
    [
        (b"", b"", 30.0),
        (b"G", b"", 10.0),
        (b"GET / HTTP/1.1\r\nhost: a\r\n", b"x: y\r\n", 10.0),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n", b"z", 30.0),
    ],
    ids=["nothing", "one byte", "a header now and then", "a byte of the body now and then"],
)
async def test_one_who_is_slow_is_gone_in_time(
    autojump_clock: trio.testing.MockClock, first: bytes, then: bytes, bearable_s: float
) -> None:
    async def slowly(stream: trio.StapledStream) -> None:
        if first:
            await stream.send_all(first)
        while then:
            await trio.sleep(0.9)
            await stream.send_all(then)
        await trio.sleep_forever()

    took_s, detail = await lasts(slowly, HttpLimits())

    assert took_s == pytest.approx(bearable_s)
    assert detail == f"took longer than {bearable_s:.0f} s"


async def test_one_who_does_not_read_is_gone_in_time() -> None:
    large = HttpResponse(200, bytes(64 << 20))
    fate: list[str] = []
    gone = trio.Event()

    async def answer(_: HttpRequest) -> HttpResponse:
        return large

    async def serve_one(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await serve_http(stream, answer, HttpLimits(send_s=0.2))
            except PeerGoneError as problem:
                fate.append(problem.detail)
        gone.set()

    async with serving(serve_one) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await gone.wait()

    assert fate == ["took longer than 0 s"]


async def test_who_comes_too_many_waits_until_somebody_has_left() -> None:
    served: list[trio.SocketStream] = []

    async def serve_one(stream: trio.SocketStream) -> None:
        served.append(stream)
        async with stream:
            with suppress(PeerGoneError):
                await serve_http(stream, echo, LIMITS)

    request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    async with serving(serve_one, connections_max=1) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as first:
            await first.send_all(request)
            await first.receive_some(65_536)
            second = await trio.open_tcp_stream("127.0.0.1", port)
            await second.send_all(request)
            await trio.testing.wait_all_tasks_blocked()
            assert len(served) == 1
        async with second:
            assert (await second.receive_some(65_536)).startswith(b"HTTP/1.1 200 ")


# ---- over TLS, and the client's end


def server_pair() -> tuple[KeyPair, bytes]:
    pair = Authority.create("CA", now=NOW)
    key = fresh_key()
    certificate = Authority(pair).issue(
        spki_of_key(key),
        "log.example",
        not_before=NOW,
        not_after=NOW + dt.timedelta(hours=1),
        server=True,
        client=False,
    )
    return KeyPair(certificate=pem_of(certificate), key=key_pem(key)), pair.certificate


async def test_somebody_elses_client_speaks_with_it_over_tls() -> None:
    own, authority = server_pair()
    context = public_context(own)
    body = bytes(range(256)) * 40_000

    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, body) if request.target == "/large" else text_response(404, "nothing here")

    async def serve_one(stream: trio.SocketStream) -> None:
        tls = await handshake(stream, context, server_side=True)
        try:
            await serve_http(tls, answer)
        finally:
            tls.close()

    def fetch(port: int) -> list[tuple[int, bytes]]:
        trusting = ssl.create_default_context(cadata=authority.decode())
        trusting.check_hostname = False
        client = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=20)
        got = []
        for path in ("/large", "/other", "/large"):
            client.request("GET", path)
            response = client.getresponse()
            got.append((response.status, response.read()))
        client.close()
        return got

    async with serving(serve_one) as port:
        got = await trio.to_thread.run_sync(fetch, port)

    assert got == [(200, body), (404, b"nothing here\n"), (200, body)]


async def test_our_client_speaks_with_our_server() -> None:
    async with connected() as stream:
        response = await exchange_http(stream, HttpRequest("POST", "/add", body=b"note"), host="log.example")

    assert (response.status, response.body) == (200, b"POST /add note")
    assert response.header("x-kind") == "echo"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"rubbish\r\n\r\n", "http_malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", "http_malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5_000, "http_malformed"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 65 + b"\r\n", "http_too_long"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n" + b"z" * 1_001, "http_too_long"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 1_001, "http_too_long"),
    ],
)
async def test_a_server_that_answers_badly_is_refused(answer: bytes, reason: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(answer)
    await theirs.send_eof()

    with pytest.raises(ProtocolError, match=reason):
        await exchange_http(ours, HttpRequest("GET", "/"), host="a", limits=LIMITS)


async def test_a_server_that_says_nothing_is_gone_in_time(autojump_clock: trio.testing.MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()

    with pytest.raises(PeerGoneError):
        await exchange_http(ours, HttpRequest("GET", "/"), host="a", limits=LIMITS)
