"""``tccp-feeder``: take the checkpoints of a coordinator's log to witnesses, and bring their cosignatures back.

    coordinator --get_head, get_tile--> feeder --POST add-checkpoint--> witness
         ^                                |
         '------- add_cosignature --------'      (over and over, one task for each witness)

It is a process of its own, because the coordinator opens no connections; it has no key and no rights, and what it
brings proves itself. A witness that is slow or gone keeps nobody waiting but its own task.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult

import structlog
import trio

from tccp import systemd
from tccp.config import CoordinatorConfig, WitnessKeyConfig, load_config
from tccp.errors import ConfigError, HostError, LogError, PeerError
from tccp.service import Program, run_daemon
from tccp.transparency.add_checkpoint import SIZE_TYPE, AddCheckpoint, parse_size
from tccp.transparency.checkpoint import Checkpoint, parse_checkpoint
from tccp.transparency.note import NOTE_BYTES_MAX, NoteKey, open_note, parse_note, parse_note_key
from tccp.transparency.proof import TileHashes, prove_consistency
from tccp.transparency.tile import Tile
from tccp.transport.http import HttpLimits, HttpResponse
from tccp.transport.http_client import http_url, post
from tccp.transport.public_log import PublicLog, open_public_log

POLL_S = 1.0
REPEAT_S = 600.0  # a head that does not change is cosigned again after this, so that tenants see it is still the newest
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 60.0
LIMITS = HttpLimits(body_bytes_max=NOTE_BYTES_MAX)

PROGRAM = Program(
    "feeder",
    CoordinatorConfig,
    "Takes the checkpoints of this machine's coordinator to the witnesses of its configuration.",
    Path("/etc/tccp/coordinator.toml"),
)

log = structlog.get_logger()


@dataclass
class Feeder:
    """What feeds one witness.

    Args:
        coordinator: Host and port for tenants.
        url: The witness's submission prefix.
        key: Whose cosignature is wanted.
    """

    coordinator: tuple[str, int]
    url: SplitResult
    key: NoteKey
    _size: int = 0  # of the checkpoint that the witness cosigned last, as far as we know
    _fed: Checkpoint | None = field(default=None, repr=False)
    _fed_at: float = 0.0

    async def run(self) -> None:
        """Feed until cancelled; whatever fails is tried again after a pause."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                public = await open_public_log(*self.coordinator)
                try:
                    while True:
                        await self.feed(public)
                        pause_s = PAUSE_FIRST_S
                        await trio.sleep(POLL_S)
                finally:
                    public.close()
            except (HostError, PeerError) as problem:
                log.warning("not_fed", witness=self.key.name, reason=problem.reason, detail=problem.detail)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def feed(self, public: PublicLog) -> None:
        """Have the newest head cosigned, if it is new or was cosigned long ago, and bring the cosignature back.

        Raises:
            LogError: ``rollback``, ``not_cosigned``: the witness does not want to; ``unsigned``, ``signature``: its
                answer is no cosignature of its.
            PeerError, HostError: As their names say.
        """
        note = await public.head()
        head = parse_checkpoint(parse_note(note).text)
        if head == self._fed and trio.current_time() - self._fed_at < REPEAT_S:
            return
        cosigned = await self._cosigned(public, note, head)
        await public.add_cosignature(cosigned)
        self._fed, self._fed_at, self._size = head, trio.current_time(), head.size
        log.debug("fed", witness=self.key.name, size=head.size)

    async def _cosigned(self, public: PublicLog, note: bytes, head: Checkpoint) -> bytes:
        """The note with the cosignature of our witness, which was verified."""
        answer = await self._offer(public, note, head)
        if answer.status == 409 and answer.header("content-type") == SIZE_TYPE:
            self._size = parse_size(answer.body)
            if self._size > head.size:
                raise LogError("rollback", f"the witness has seen {self._size} entries, the log has {head.size}")
            answer = await self._offer(public, note, head)
        if answer.status != 200:
            raise LogError("not_cosigned", f"the witness answers {answer.status}: {answer.body[:200]!r}")
        cosigned = _without(note, self.key) + answer.body
        open_note(cosigned, [self.key])
        return cosigned

    async def _offer(self, public: PublicLog, note: bytes, head: Checkpoint) -> HttpResponse:
        hashes = await _hashes(public, head, self._size)
        request = AddCheckpoint(self._size, tuple(prove_consistency(hashes, self._size)), note)
        return await post(self.url, "/add-checkpoint", request.encode(), limits=LIMITS)


def _without(note: bytes, key: NoteKey) -> bytes:
    """The note without an older cosignature of this witness, which would stand there twice."""
    parsed = parse_note(note)
    lines = tuple(line for line in parsed.signatures if (line.name, line.key_id) != (key.name, key.key_id))
    return type(parsed)(parsed.text, lines).encode()


class _MissingTileError(Exception):
    """A tile that the proof needs and that was not fetched yet."""

    def __init__(self, tile: Tile) -> None:
        super().__init__(tile)
        self.tile = tile


async def _hashes(public: PublicLog, head: Checkpoint, old_size: int) -> TileHashes:
    """What proves that *head* continues *old_size*: tried with the tiles that are here, until none is missing."""
    tiles: dict[Tile, bytes] = {}

    def read(tile: Tile) -> bytes:
        if tile not in tiles:
            raise _MissingTileError(tile)
        return tiles[tile]

    while True:
        try:
            hashes = TileHashes(read, head.size)
            if 0 < old_size <= head.size:
                prove_consistency(hashes, old_size)
        except _MissingTileError as missing:
            tiles[missing.tile] = await public.read_tile(missing.tile)
        else:
            return hashes


def feeders_of(witnesses: tuple[WitnessKeyConfig, ...], coordinator: tuple[str, int]) -> list[Feeder]:
    """One for each witness of a configuration.

    Raises:
        ConfigError: ``note_key``, ``bad_url``.
    """
    return [Feeder(coordinator, http_url(each.url), parse_note_key(each.key)) for each in witnesses]


async def serve(config_path: Path, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
    """Feed all witnesses of a coordinator's configuration until told to stop (SIGTERM, SIGINT) or cancelled."""
    config = load_config(config_path, CoordinatorConfig)
    if not config.witness:
        raise ConfigError("no_witness", f"{config_path}: there is no [[witness]] to be fed")
    tenants = config.tenants
    host = _LOCAL.get(tenants.address, tenants.address)
    async with trio.open_nursery() as nursery:
        for feeder in feeders_of(config.witness, (host, tenants.port)):
            nursery.start_soon(feeder.run)
        nursery.start_soon(lambda: systemd.keep_watchdog(healthy=lambda: True))
        systemd.notify("READY=1", f"STATUS=feeding {len(config.witness)} witnesses")
        task_status.started()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async for _ in received:
                systemd.notify("STOPPING=1")
                nursery.cancel_scope.cancel()
                return


_LOCAL: Mapping[str, str] = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where to reach it


def main(arguments: list[str] | None = None) -> int:
    """The command ``tccp-feeder``; exit codes as `tccp` has them."""
    return run_daemon(PROGRAM, serve, arguments)
