"""One HTTP POST to a URL of the configuration, for processes that may call others."""

import ssl
from urllib.parse import SplitResult, urlsplit

from tccp.errors import ConfigError
from tccp.transport.calling import call
from tccp.transport.connection import handshake
from tccp.transport.http import Headers, HttpLimits, HttpRequest, HttpResponse, exchange_http

CONNECT_S = 10.0
LIMITS = HttpLimits(body_bytes_max=1 << 20)


def http_url(text: str) -> SplitResult:
    """*text* as a URL of a web server.

    Raises:
        ConfigError: ``bad_url``.
    """
    try:
        url = urlsplit(text)
        is_one = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # brackets without an address, a port that is no number
        is_one = False
    if not is_one:
        raise ConfigError("bad_url", f"{text!r} is not a URL of a web server")
    return url


async def post(
    url: SplitResult,
    path: str,
    body: bytes,
    *,
    headers: Headers = (("content-type", "text/plain"),),
    limits: HttpLimits = LIMITS,
) -> HttpResponse:
    """POST *body* to *path* below the prefix *url*; with https the server must have a certificate for its name.

    Raises:
        HostError: ``unreachable``.
        ProtocolError, PeerGoneError: as `exchange_http`.
    """
    host, secure = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if secure else 80)
    stream = await call(host, port, within_s=CONNECT_S)
    query = f"?{url.query}" if url.query else ""
    target = (url.path.rstrip("/") + path if path else url.path or "/") + query
    request = HttpRequest("POST", target, headers, body)
    where = url.netloc.rpartition("@")[2]
    if not secure:
        async with stream:
            return await exchange_http(stream, request, host=where, limits=limits)
    tls = await handshake(stream, ssl.create_default_context(), server_side=False, server_name=host)
    try:
        return await exchange_http(tls, request, host=where, limits=limits)
    finally:
        tls.close()
