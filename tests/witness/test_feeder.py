"""A feeder believes a witness's server only under the name of its URL, and a witness's answer only by its key."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from tccp.config import WitnessKeyConfig
from tccp.errors import ConfigError, HostError, LogError, ProtocolError
from tccp.transport.accepting import serve_connections
from tccp.transport.certificates import Authority, KeyPair, fresh_key, key_pem, pem_of, spki_of_key
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import HttpRequest, HttpResponse, serve_http
from tccp.transport.tls import public_context
from tccp.witness.feeder import Feeder, feeders_of, post
from tests.transparency.support import entries_of, naive_root, signed_checkpoint, witness

NOW = dt.datetime.now(tz=dt.UTC)
NOTE = signed_checkpoint(9, naive_root(entries_of(9)))


@asynccontextmanager
async def https_server(authority: Authority, answers: list[HttpResponse]) -> AsyncIterator[int]:
    """A web server called localhost that gives *answers*, one after the other."""
    key = fresh_key()
    end = NOW + dt.timedelta(days=1)
    issued = authority.issue(spki_of_key(key), "localhost", not_before=NOW, not_after=end, server=True, client=False)
    context = public_context(KeyPair(certificate=pem_of(issued), key=key_pem(key)))

    async def answer(_: HttpRequest) -> HttpResponse:
        return answers.pop(0)

    async def serve_one(stream: trio.SocketStream) -> None:
        try:
            tls = await handshake(stream, context, server_side=True)
        except (PeerGoneError, ProtocolError):
            return
        try:
            await serve_http(tls, answer)
        except PeerGoneError:
            return
        finally:
            tls.close()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0], trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_connections(listeners, serve_one, connections_max=4))
        yield int(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this machine trusts."""
    pair = Authority.create("web", now=NOW)
    (tmp_path / "ca.pem").write_bytes(pair.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return Authority(pair)


async def test_a_witness_is_spoken_to_over_https(authority: Authority) -> None:
    async with https_server(authority, [HttpResponse(200, b"x" * 100_000)]) as port:
        answer = await post(urlsplit(f"https://localhost:{port}/w1/"), "/add-checkpoint", b"body")

    assert (answer.status, len(answer.body)) == (200, 100_000)


async def test_a_server_of_another_authority_or_name_is_told_nothing(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = [HttpResponse(200, b"")]
    async with https_server(authority, answers) as port:
        with pytest.raises(ProtocolError, match="tls_handshake"):
            await post(urlsplit(f"https://127.0.0.1:{port}"), "/add-checkpoint", b"body")
        (tmp_path / "ca.pem").write_bytes(Authority.create("another", now=NOW).certificate)
        with pytest.raises(ProtocolError, match="tls_handshake"):
            await post(urlsplit(f"https://localhost:{port}"), "/add-checkpoint", b"body")
    assert len(answers) == 1


class Coordinator:
    """A coordinator's public log, as a feeder asks it, with one head; keeps what is brought."""

    def __init__(self) -> None:
        self.brought: list[bytes] = []

    async def head(self) -> bytes:
        return NOTE

    async def add_cosignature(self, note: bytes) -> bytes:
        self.brought.append(note)
        return note


SIZE = (("content-type", "text/x.tlog.size"),)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([HttpResponse(200, b"")], "unsigned"),
        ([HttpResponse(200, b"anything")], "note_malformed"),
        ([HttpResponse(200, str(witness("another.example").sign("x\n", 1)).encode())], "unsigned"),
        ([HttpResponse(200, str(witness().sign("another text\n", 1)).encode())], "signature"),
        ([HttpResponse(403, b"no")], "not_cosigned"),
        ([HttpResponse(409, b"17\n", SIZE)], "rollback"),
        ([HttpResponse(409, b"many\n", SIZE)], "answer_malformed"),
        ([HttpResponse(409, b"0\n", SIZE), HttpResponse(409, b"0\n", SIZE)], "not_cosigned"),
    ],
)
async def test_what_is_no_cosignature_is_brought_to_nobody(
    answers: list[HttpResponse], reason: str, authority: Authority
) -> None:
    coordinator = Coordinator()
    async with https_server(authority, list(answers)) as port:
        feeder = Feeder(("unused", 1), urlsplit(f"https://localhost:{port}"), witness().key)
        with pytest.raises(LogError) as caught:
            await feeder.feed(coordinator)  # type: ignore[arg-type]

    assert caught.value.reason == reason
    assert coordinator.brought == []


async def test_a_witness_that_is_not_there_is_an_error_of_the_network() -> None:
    with pytest.raises(HostError, match="unreachable"):
        await post(urlsplit("http://127.0.0.1:1"), "/add-checkpoint", b"")


@pytest.mark.parametrize("url", ["http://", "http://:1", "http://x:99999", "http://x:0"])
def test_a_url_that_leads_nowhere_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="bad_url"):
        feeders_of((WitnessKeyConfig(url=url, key=str(witness().key)),), ("127.0.0.1", 1))
