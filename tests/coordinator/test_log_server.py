"""The log over the coordinator's real HTTPS port: what is there, what is not, and that other people's tools read it."""

import hashlib
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from pymerkle import InmemoryTree
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey

from tccp.coordinator.log_server import LOG_HOST, is_under
from tccp.merkle import leaf_hash
from tccp.protocol.statements import log_origin
from tccp.store import EventDraft
from tccp.transparency.checkpoint import verify_checkpoint
from tccp.transparency.note import NoteKey, to_base64
from tccp.transparency.proof import TileHashes, prove_inclusion
from tccp.transparency.tile import ENTRIES, Tile, decode_entries, tile_at
from tests.support.live_coordinator import HOST, LiveCoordinator

EVENTS = 300
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}


@dataclass(frozen=True)
class Answer:
    """What a client gets."""

    status: int
    headers: dict[str, str]
    body: bytes


class Reader:
    """Somebody else's HTTP client, who trusts the coordinator's authority."""

    def __init__(self, coordinator: LiveCoordinator) -> None:
        self._context = ssl.create_default_context(cadata=coordinator.trust.ca_certificate.decode())
        self._port = coordinator.log_port

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPSConnection(HOST, self._port, context=self._context, timeout=60)
        plain = connection._create_connection((HOST, self._port), 20)  # type: ignore[attr-defined]
        connection.sock = self._context.wrap_socket(plain, server_hostname=LOG_HOST)
        try:
            yield connection
        finally:
            connection.close()

    def ask(self, target: str, method: str = "GET") -> Answer:
        with self._connected() as connection:
            connection.putrequest(method, target, skip_accept_encoding=True)
            connection.endheaders()
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())

    def get(self, *path: str) -> bytes | None:
        """As tlog-scales asks for files."""
        answer = self.ask("/" + "/".join(path))
        return answer.body if answer.status == 200 else None

    def read_tile(self, tile: Tile) -> bytes:
        """As our own proofs do."""
        content = self.get(tile.path)
        assert content is not None
        return content


@pytest.fixture
async def filled(coordinator: LiveCoordinator) -> LiveCoordinator:
    """A coordinator whose log has a full tile and more."""
    for number in range(EVENTS):
        seq = await coordinator.store.append_event(EventDraft(number, "refuse"))
    await coordinator.services.log.included(seq)
    return coordinator


def key_of(coordinator: LiveCoordinator) -> NoteKey:
    return NoteKey(log_origin(coordinator.trust.coordinator_id), coordinator.services.identity.keys.log_key)


async def ask(coordinator: LiveCoordinator, target: str, method: str = "GET") -> Answer:
    return await trio.to_thread.run_sync(Reader(coordinator).ask, target, method)


async def test_the_checkpoint_is_the_newest_and_kept_by_no_cache(filled: LiveCoordinator) -> None:
    answer = await ask(filled, "/checkpoint")

    key = key_of(filled)
    head = verify_checkpoint(answer.body, origin=key.name, log_key=key).checkpoint
    assert head == filled.services.log.head.checkpoint
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_tiles_are_there_for_ever(filled: LiveCoordinator) -> None:
    size = filled.services.log.size
    edge = [tile_at(ENTRIES, size // 256, size), tile_at(0, size // 256, size), tile_at(1, 0, size)]
    for tile in (Tile(0, 0), Tile(ENTRIES, 0), Tile(0, 0, 9), *edge):
        answer = await ask(filled, f"/{tile.path}")

        assert answer.status == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert 0 < len(answer.body) <= tile.bytes_max


async def test_head_says_what_get_would_send(filled: LiveCoordinator) -> None:
    got, head = await ask(filled, "/tile/0/000"), await ask(filled, "/tile/0/000", "HEAD")

    del got.headers["date"], head.headers["date"]
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")
    assert head.headers["content-length"] == str(len(got.body)) == "8192"


NOTHING = [
    "/",
    "/checkpoint/",
    "/checkpoint?",
    "//checkpoint",
    "/tile/0/002",
    "/tile/0/001",
    "/tile/0/001.p/1",  # no checkpoint ended there
    "/tile/0/000/",
    "/tile/0/000.p/0",
    "/tile/00/000",
    "/tile/8/000",
    "/tile/0/x000/000",
    "/tile/0/../0/000",
    "/tile/0/%30%30%30",
    "/tile/entries/../../../../keys/log.key",
    "/../keys/identity.key",
    "/..%2fkeys%2fidentity.key",
    "/lock",
    "/new/0",
    "/favicon.ico",
    "xtile/0/000",
    "*",
    "https://log.tccp.internal/checkpoint",
]


async def test_nothing_else_is_there(filled: LiveCoordinator) -> None:
    for target in NOTHING:
        answer = await ask(filled, target)

        assert (answer.status, answer.body) == (404, b"nothing here\n"), target
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_can_be_changed(filled: LiveCoordinator, method: str) -> None:
    answer = await ask(filled, "/checkpoint", method)

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_what_is_not_under_the_checkpoint_is_not_served(filled: LiveCoordinator) -> None:
    """A crash may have left it, and it may change: a cache would keep the wrong one for ever."""
    beyond = Tile(0, 1, 250)
    path = filled.services.log.files.directory / beyond.path
    path.write_bytes(bytes(250 * 32))

    assert (await ask(filled, f"/{beyond.path}")).status == 404
    assert filled.services.log.files.read_tile(beyond) == bytes(250 * 32)  # who looks no further finds it


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 70_000])
def test_exactly_what_a_tree_has_is_under_its_root(size: int) -> None:
    for level in (ENTRIES, 0, 1, 2):
        hashes = size >> 8 * max(level, 0)
        for index in {0, 1, max(hashes // 256 - 1, 0), hashes // 256, hashes // 256 + 1}:
            for width in (1, 2, 44, 255, 256):
                assert is_under(Tile(level, index, width), size) is (index * 256 + width <= hashes)


# ---- other people's tools


async def test_gos_checksum_database_reads_all_of_it(filled: LiveCoordinator, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(filled.trust.ca_certificate)
    program = ["go", "run", str(Path(__file__).parent / "read_log.go")]
    arguments = [f"https://{HOST}:{filled.log_port}", str(authority), str(key_of(filled))]

    done = await trio.run_process([*program, *arguments], env={**os.environ, **GO}, capture_stdout=True)

    head, files = filled.services.log.head.checkpoint, filled.services.log.files
    entries = [
        entry
        for index in range(-(-head.size // 256))
        for entry in decode_entries(
            tile_at(ENTRIES, index, head.size), files.read_tile(tile_at(ENTRIES, index, head.size))
        )
    ]
    assert json.loads(done.stdout) == {
        "size": head.size,
        "root": to_base64(head.root),
        "entries": hashlib.sha256(b"".join(entries)).hexdigest(),
    }


async def test_gos_checksum_database_refuses_another_key(filled: LiveCoordinator, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(filled.trust.ca_certificate)
    program = ["go", "run", str(Path(__file__).parent / "read_log.go")]
    other = NoteKey(key_of(filled).name, bytes(32))
    arguments = [f"https://{HOST}:{filled.log_port}", str(authority), str(other)]

    with pytest.raises(subprocess.CalledProcessError) as refused:
        await trio.run_process(
            [*program, *arguments], env={**os.environ, **GO}, capture_stdout=True, capture_stderr=True
        )

    assert b"note has no verifiable signatures" in refused.value.stderr


async def test_tlog_scales_reads_and_proves_it(filled: LiveCoordinator) -> None:
    def read() -> None:
        tiles = TilesReader(Reader(filled))
        head = tiles.get_checkpoint()
        head.verify(Vkey.from_string(str(key_of(filled))))
        assert tiles.calculate_root_hash() == head.root_hash
        assert head.size >= EVENTS
        for index in (0, 1, 255, 256, head.size - 1):
            proof = tiles.get_inclusion_proof(index, head.size)
            proof.check(leaf_hash(tiles.get_entry(index)), head.root_hash)
        for old in (1, 255, 256, head.size - 1):
            tiles.get_consistency_proof(old, head.size).check(tiles.mth(0, old), head.root_hash)

    await trio.to_thread.run_sync(read)


async def test_pymerkle_makes_the_same_tree_and_the_same_proofs_of_its_entries(filled: LiveCoordinator) -> None:
    def read() -> None:
        reader = Reader(filled)
        head = filled.services.log.head.checkpoint
        theirs = InmemoryTree(algorithm="sha256")
        for number in range(-(-head.size // 256)):
            tile = tile_at(ENTRIES, number, head.size)
            for entry in decode_entries(tile, reader.read_tile(tile)):
                theirs.append_entry(entry)
        assert theirs.get_root() == head.root
        ours = TileHashes(reader.read_tile, head.size)
        for index in (0, 17, 256, head.size - 1):
            proof = theirs.prove_inclusion(index + 1, head.size).serialize()
            assert set(proof["path"][1:]) == {digest.hex() for digest in prove_inclusion(ours, index)}

    await trio.to_thread.run_sync(read)
