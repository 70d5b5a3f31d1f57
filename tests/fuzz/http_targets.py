"""Fuzz targets for HTTP: what a stranger sends our server, and what a stranger's server answers."""

import trio
import trio.testing

from tccp.errors import ProtocolError
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import HttpLimits, HttpRequest, HttpResponse, exchange_http, serve_http

LIMITS = HttpLimits(head_bytes_max=1_024, headers_max=8, body_bytes_max=256, requests_max=3)


def feed_request(data: bytes) -> bool:
    """Whatever comes in, requests within the limits come out, or none."""
    requests: list[HttpRequest] = []

    async def answer(request: HttpRequest) -> HttpResponse:
        requests.append(request)
        return HttpResponse(200, b"ok")

    async def serve() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data)
        await theirs.send_eof()
        try:
            await serve_http(ours, answer, LIMITS)
        except PeerGoneError:
            return

    trio.run(serve, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(requests) <= LIMITS.requests_max
    for request in requests:
        assert len(request.body) <= LIMITS.body_bytes_max
        assert len(request.headers) <= LIMITS.headers_max
        assert len(request.target) <= LIMITS.head_bytes_max
    return bool(requests)


def feed_response(data: bytes) -> bool:
    """A response within the limits, or a refusal."""

    async def exchange() -> HttpResponse | None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data)
        await theirs.send_eof()
        try:
            return await exchange_http(ours, HttpRequest("GET", "/"), host="a", limits=LIMITS)
        except (PeerGoneError, ProtocolError):
            return None

    response = trio.run(exchange, clock=trio.testing.MockClock(autojump_threshold=0))
    assert response is None or len(response.body) <= LIMITS.body_bytes_max
    return response is not None


def requests() -> list[bytes]:
    """With a body, in chunks, and two at once."""
    return [
        b"POST /add HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\nabc",
        b"PUT /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
    ]


def responses() -> list[bytes]:
    """With a length, in chunks, until the end, and after an informational one."""
    return [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.0 404 no\r\n\r\nabc",
        b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 204 \r\nx: y\r\n\r\n",
    ]
