"""The log over HTTPS: its checkpoint and its tiles, to be read by anybody, and by caches in between.

Nothing else is served, and nothing that is not under the signed checkpoint: what a crash left beyond it may still
change. Whoever reads believes signature and hashes, not this server; TLS keeps others from listening.
"""

import datetime as dt
import ssl
from pathlib import Path

import structlog
import trio

from tccp.config import LogServerConfig
from tccp.coordinator.cosignatures import Cosignatures
from tccp.coordinator.identity import TLS_CERTIFICATE_DAYS
from tccp.coordinator.published_log import PublishedLog
from tccp.errors import ConfigError, HostError, LogError, ProtocolError, StoreError
from tccp.transparency.tile import ENTRIES, WIDTH_MAX, Tile, parse_tile_path
from tccp.transport.certificates import Authority, KeyPair, fresh_key, key_pem, pem_of, spki_of_key
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import HttpLimits, HttpRequest, HttpResponse, serve_http, text_response
from tccp.transport.tls import public_context

LOG_HOST = "log.tccp.internal"  # in the certificate, when it is ours
LIMITS = HttpLimits(head_bytes_max=8_192, body_bytes_max=0, requests_max=10_000)
FOR_EVER = "public, max-age=31536000, immutable"
READERS_MAX = 8

log = structlog.get_logger()


class LogServer:
    """Answers requests for the log's files; the checkpoint with the cosignatures that have come in for it."""

    def __init__(self, published: PublishedLog, cosignatures: Cosignatures) -> None:
        self._published, self._cosignatures = published, cosignatures
        self._readers = trio.CapacityLimiter(READERS_MAX)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The file at the path that is asked for, or that there is none."""
        if request.method not in {"GET", "HEAD"}:
            return text_response(405, "only GET and HEAD", ("allow", "GET, HEAD"))
        if request.target == "/checkpoint":
            headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-cache"))
            note = self._cosignatures.with_cosignatures(self._published.head.note.encode())
            return HttpResponse(200, note, headers)
        try:
            tile = parse_tile_path(request.target[1:])
        except LogError:
            return self._nothing_here()
        if request.target[0] != "/" or not is_under(tile, self._published.size):
            return self._nothing_here()
        try:
            content = await trio.to_thread.run_sync(self._published.files.read_tile, tile, limiter=self._readers)
        except LogError as problem:
            raise HostError("log_damaged", str(problem)) from None
        except StoreError as problem:
            if problem.reason != "tile_missing":
                raise
            return self._nothing_here()  # no checkpoint ever ended there
        headers = (("content-type", "application/octet-stream"), ("cache-control", FOR_EVER))
        return HttpResponse(200, content, headers)

    @staticmethod
    def _nothing_here() -> HttpResponse:
        return text_response(404, "nothing here", ("cache-control", "no-store"))

    async def serve(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        """Serve one connection. Never raises what a peer can cause."""
        try:
            tls = await handshake(stream, context, server_side=True)
            try:
                await serve_http(tls, self.answer, LIMITS)
            finally:
                tls.close()
        except (PeerGoneError, ProtocolError) as problem:
            log.debug("log_reader_gone", reason=problem.reason, detail=problem.detail)


def is_under(tile: Tile, size: int) -> bool:
    """Whether a tree of *size* has all that *tile* holds."""
    hashes = size if tile.level == ENTRIES else size >> 8 * tile.level
    return tile.index * WIDTH_MAX + tile.width <= hashes


def log_context(config: LogServerConfig, authority: Authority, *, now: dt.datetime) -> ssl.SSLContext:
    """TLS with the certificate that the operator gives, or with a fresh one of the coordinator's *authority*.

    Raises:
        ConfigError: ``log_certificate``: the operator's files cannot be read, or do not belong together.
    """
    if config.certificate is None or config.key is None:
        key = fresh_key()
        not_after = now + dt.timedelta(days=TLS_CERTIFICATE_DAYS)
        issued = authority.issue(
            spki_of_key(key), LOG_HOST, not_before=now, not_after=not_after, server=True, client=False
        )
        return public_context(KeyPair(certificate=pem_of(issued), key=key_pem(key)))
    hint = "log_server.certificate is a PEM file of the certificate and its chain, log_server.key of its key"
    try:
        pair = KeyPair(certificate=Path(config.certificate).read_bytes(), key=Path(config.key).read_bytes())
        return public_context(pair)
    except ssl.SSLError as problem:
        detail = f"{config.certificate}, {config.key}: {problem.reason or problem}"
        raise ConfigError("log_certificate", detail, hint=hint) from None
    except OSError as problem:
        raise ConfigError("log_certificate", f"{problem.filename}: {problem.strerror}", hint=hint) from None
