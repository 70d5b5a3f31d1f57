"""HTTP/1.1 over any stream, with h11 for the protocol and a bound on everything that a stranger controls.

    serve_http     one connection: requests in, one after the other, and what an *answer* function says to each
    exchange_http  one request over a stream that is connected, and its response

A request is read whole before it is answered, and so is a response: both are small here. Nothing is compressed, no path
is decoded, no file is touched: what a target means, the *answer* function knows.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

import h11
import structlog
import trio

from tccp.errors import HostError, ProtocolError
from tccp.transport.errors import PeerGoneError, gone_after

READ_BYTES = 65_536
SEND_BYTES = 65_536
LINGER_S = 2.0
LINGER_BYTES_MAX = 1 << 20

Headers = tuple[tuple[str, str], ...]

log = structlog.get_logger()


class ByteStream(Protocol):
    """What HTTP needs of a connection; `trio.SocketStream` and `tccp.transport.tls_stream.TlsStream` are such."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at least one byte; empty when the peer has closed."""

    async def send_all(self, data: bytes) -> None:
        """Return when the kernel has taken everything."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a peer may cost us. Sizes in bytes, times in seconds."""

    head_bytes_max: int = 16_384  # the request or status line with all headers
    headers_max: int = 64
    body_bytes_max: int = 65_536
    requests_max: int = 1_000  # on one connection
    idle_s: float = 30.0  # before the first byte of a request
    head_s: float = 10.0  # from there to the end of its headers
    body_s: float = 30.0
    send_s: float = 60.0  # one response


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A whole request. *target* is exactly what stands in the request line; header names are in lower case."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        """The first header of this name, empty when there is none."""
        return _header(self.headers, name)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole response. The length of *body* is added to *headers*, which are in lower case."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    def header(self, name: str) -> str:
        """The first header of this name, empty when there is none."""
        return _header(self.headers, name)


AnswerFunction = Callable[[HttpRequest], Awaitable[HttpResponse]]


def text_response(status: int, text: str, *headers: tuple[str, str]) -> HttpResponse:
    """A response that people read."""
    return HttpResponse(status, f"{text}\n".encode(), (("content-type", "text/plain; charset=utf-8"), *headers))


def _header(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key == name), "")


def _readable(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


# ---- the server's end


async def serve_http(stream: ByteStream, answer: AnswerFunction, limits: HttpLimits = HttpLimits()) -> None:
    """Answer the requests on *stream* until either side has enough; the caller closes it.

    HEAD is answered as GET is, without the body, when *answer* makes no difference between the two. A `HostError` from
    *answer* is a 500, any other exception a bug, which passes through.

    Raises:
        PeerGoneError: The peer vanished, or took longer than it may.
    """
    await _Server(stream, answer, limits).run()


class _TooMuchError(Exception):
    """What is beyond the limits, or not for us at all; *status* says so to the peer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class _Server:
    def __init__(self, stream: ByteStream, answer: AnswerFunction, limits: HttpLimits) -> None:
        self._stream, self._answer, self._limits = stream, answer, limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._wants_body = True

    async def run(self) -> None:
        for _ in range(self._limits.requests_max):
            try:
                request = await self._request()
                if request is None:
                    return
                response = await self._response(request)
            except h11.RemoteProtocolError as problem:
                log.debug("http_refused", detail=str(problem))
                await self._refuse(problem.error_status_hint, "not HTTP as it should be")
                return
            except _TooMuchError as problem:
                log.debug("http_refused", detail=problem.text)
                await self._refuse(problem.status, problem.text)
                return
            await self._send(response)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> HttpRequest | None:
        """The next request; None when the peer has closed instead."""
        self._wants_body = True
        if not self._http.trailing_data[0]:
            with gone_after(self._limits.idle_s):
                self._http.receive_data(await _receive(self._stream))
        with gone_after(self._limits.head_s):
            head = await _next_event(self._http, self._stream)
        if isinstance(head, h11.ConnectionClosed):
            return None
        assert isinstance(head, h11.Request), head
        self._wants_body = head.method != b"HEAD"
        _check_head(head, self._limits)
        if head.method == b"CONNECT":
            raise _TooMuchError(405, "this is not a proxy")
        headers = _readable(head.headers)
        if int(_header(headers, "content-length") or 0) > self._limits.body_bytes_max:
            raise _TooMuchError(413, f"more than {self._limits.body_bytes_max} bytes")
        with gone_after(self._limits.body_s):
            if self._http.they_are_waiting_for_100_continue:
                await _send(self._http, self._stream, h11.InformationalResponse(status_code=100, headers=[]))
            body = await _receive_body(self._http, self._stream, self._limits)
        return HttpRequest(head.method.decode("ascii"), head.target.decode("latin-1"), headers, body)

    async def _response(self, request: HttpRequest) -> HttpResponse:
        try:
            return await self._answer(request)
        except HostError as problem:
            log.error("http_failed", target=request.target, reason=problem.reason, detail=problem.detail)
            return text_response(500, problem.reason)

    async def _send(self, response: HttpResponse) -> None:
        fixed = [("content-length", str(len(response.body))), ("date", formatdate(usegmt=True))]
        head = h11.Response(status_code=response.status, headers=[*fixed, *response.headers])
        body = response.body if self._wants_body else b""
        with gone_after(self._limits.send_s):
            await _send(self._http, self._stream, head)
            for start in range(0, len(body), SEND_BYTES):
                await _send(self._http, self._stream, h11.Data(data=body[start : start + SEND_BYTES]))
            await _send(self._http, self._stream, h11.EndOfMessage())

    async def _refuse(self, status: int, text: str) -> None:
        """Say why, if it can still be said; then listen a moment, for closing on unread bytes would take it back."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        await self._send(text_response(status, text, ("connection", "close")))
        received = 0
        with trio.move_on_after(LINGER_S):
            while received < LINGER_BYTES_MAX and (data := await _receive(self._stream)):
                received += len(data)


# ---- the client's end


async def exchange_http(
    stream: ByteStream,
    request: HttpRequest,
    *,
    host: str,
    limits: HttpLimits = HttpLimits(),
) -> HttpResponse:
    """Send *request* and return the response; *stream* is used for nothing else before or after.

    Args:
        host: The server's name as its users write it, with the port if it is not the usual one.
        limits: ``head_s`` is the server's time until it answers, from the last byte sent on.

    Raises:
        ProtocolError: ``http_malformed``: what came is no HTTP; ``http_too_long``: more than *limits* allow.
        PeerGoneError: The server vanished, or took longer than it may.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes_max)
    fixed = [("host", host), ("content-length", str(len(request.body))), ("connection", "close")]
    head = h11.Request(method=request.method, target=request.target, headers=[*fixed, *request.headers])
    try:
        with gone_after(limits.send_s):
            for event in (head, h11.Data(data=request.body), h11.EndOfMessage()):
                await _send(http, stream, event)
        with gone_after(limits.head_s):
            while isinstance(answer := await _next_event(http, stream), h11.InformationalResponse):
                pass
        if not isinstance(answer, h11.Response):
            raise PeerGoneError("peer_gone", "the server closed the connection")
        _check_head(answer, limits)
        with gone_after(limits.body_s):
            body = await _receive_body(http, stream, limits)
    except h11.RemoteProtocolError as problem:
        raise ProtocolError("http_malformed", str(problem)) from None
    except _TooMuchError as problem:
        raise ProtocolError("http_too_long", problem.text) from None
    return HttpResponse(answer.status_code, body, _readable(answer.headers))


# ---- both


def _check_head(head: h11.Request | h11.Response, limits: HttpLimits) -> None:
    """h11 bounds what it keeps while it waits for more; what came at once may be longer."""
    length = sum(len(name) + len(value) for name, value in head.headers)
    if isinstance(head, h11.Request):
        length += len(head.target)
    if length > limits.head_bytes_max or len(head.headers) > limits.headers_max:
        raise _TooMuchError(431, f"more than {limits.headers_max} headers, or {limits.head_bytes_max} bytes of them")


async def _next_event(http: h11.Connection, stream: ByteStream) -> "h11.Event":
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await _receive(stream))
    assert isinstance(event, h11.Event), f"{event}: asked for more than one message at a time"
    return event


async def _receive_body(http: h11.Connection, stream: ByteStream, limits: HttpLimits) -> bytes:
    parts, length = [], 0
    while not isinstance(event := await _next_event(http, stream), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        parts.append(bytes(event.data))
        length += len(event.data)
        if length > limits.body_bytes_max:
            raise _TooMuchError(413, f"more than {limits.body_bytes_max} bytes")
    return b"".join(parts)


async def _receive(stream: ByteStream) -> bytes:
    try:
        return bytes(await stream.receive_some(READ_BYTES))
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        raise PeerGoneError("peer_gone", str(problem)) from None


async def _send(http: h11.Connection, stream: ByteStream, event: "h11.Event") -> None:
    data = http.send(event)
    try:
        if data:
            await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        raise PeerGoneError("peer_gone", str(problem)) from None
