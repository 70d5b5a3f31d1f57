"""Fuzz targets for what QEMU answers while something is done with it, and what a disk's process says.

Whoever has broken out of a guest answers for both.
"""

import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

from tccp.errors import DiskError, HostError
from tccp.node.vm.disk import _read_document
from tccp.node.vm.migration import Pace, query, send_out, take_in
from tccp.node.vm.mirror import Mirrors, _until
from tccp.node.vm.qmp import COUNT_MAX, Qmp
from tccp.protocol.encoding import encode
from tccp.protocol.marks import MARK_BYTES
from tccp.protocol.transfer import TransferProgress

JOBS = 2
PATIENCE_S = 30.0  # less than anybody waits for QEMU; on a clock that jumps
NUMBER_MAX = (1 << 63) - 1


# ---- scenarios, each with QEMU


async def _query(qmp: Qmp) -> None:
    sent = await query(qmp)
    assert max(sent.total_ms, sent.left_bytes, sent.memory_bytes, sent.rounds) <= COUNT_MAX


async def _send_out(qmp: Qmp) -> None:
    with open(os.devnull, "wb") as out:  # noqa: ASYNC230, PTH123
        await send_out(qmp, out.fileno(), Pace(), standing_still=trio.lowlevel.checkpoint)


async def _take_in(qmp: Qmp) -> None:
    with open(os.devnull, "rb") as state:  # noqa: ASYNC230, PTH123
        await take_in(qmp, state.fileno())


async def _mirror(qmp: Qmp) -> None:
    """What it counts can be told to the other node."""
    with qmp.listening("JOB_STATUS_CHANGE") as events:
        mirrors = Mirrors(qmp, JOBS, events)
        left, whole = await mirrors.left()
        assert 0 <= left <= whole <= NUMBER_MAX
        encode(TransferProgress(whole, left, 0, 0, 0, 0, 0))
        await mirrors.finish()
        await _until(events, JOBS, frozenset({"ready"}))


SCENARIOS: tuple[Callable[[Qmp], Awaitable[None]], ...] = (_query, _send_out, _send_out, _take_in, _mirror)


def feed_monitor(data: bytes) -> bool:
    """The first byte says what is done; then come QEMU's lines, as many for each command as up to an answer."""
    if not data:
        return False
    ours, theirs = socket.socketpair()

    async def talk() -> bool:
        qmp = Qmp(ours, lambda _event: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_play, trio.socket.from_stdlib_socket(theirs), data[1:].split(b"\n"))
            nursery.start_soon(qmp.run)
            try:
                await qmp.negotiate()
                await SCENARIOS[data[0] % len(SCENARIOS)](qmp)
            except HostError:
                return False
            finally:
                nursery.cancel_scope.cancel()
        return True

    with ours, theirs:
        return trio.run(talk, clock=MockClock(autojump_threshold=0.001))


async def _play(peer: trio.socket.SocketType, lines: list[bytes]) -> None:
    """Greet, then answer each command; gone when nothing is left to be said."""
    with peer, contextlib.suppress(OSError):
        await peer.send(lines[0] + b"\n")
        number, left = 0, lines[1:]
        while left and await _is_asked(peer):
            number += 1
            while left:
                line = left.pop(0)
                is_answer = b'"event"' not in line
                await peer.send(_numbered(line, number) + b"\n")
                if is_answer:
                    break


async def _is_asked(peer: trio.socket.SocketType) -> bool:
    """Whether there is a command. A QEMU that is waited for, and says nothing, ends."""
    with trio.move_on_after(PATIENCE_S):
        return bool(await peer.recv(65_536))
    return False


def _numbered(line: bytes, number: int) -> bytes:
    """An answer, as one to this command."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(document, dict) or "event" in document:
        return line
    try:
        return json.dumps({**document, "id": number}).encode()
    except RecursionError:
        return line


def monitors() -> list[bytes]:
    """A QEMU that does all that it is told."""
    done = {"return": {}}
    progress = {"return": {"ram": {"transferred": 9, "remaining": 1, "total": 9}, "total-time": 5, "downtime": 1}}

    def migration(status: str) -> dict[str, object]:
        return {"event": "MIGRATION", "data": {"status": status}}

    def job(number: int, status: str) -> dict[str, object]:
        return {"event": "JOB_STATUS_CHANGE", "data": {"id": f"copy{number}", "status": status}}

    jobs = {"return": [{"len": 9, "offset": 8}, {"len": 4, "offset": 4}]}
    scripts: tuple[list[dict[str, object]], ...] = (
        [progress],
        [
            {"return": {"enabled": True}},
            *(done, done, done),
            *(migration("setup"), migration("pre-switchover"), done),
            *(migration("completed"), done),
            progress,
        ],
        [
            {"return": {"enabled": False}},
            {"return": {"running": True}},
            *(done, done, done, done),
            *(migration("setup"), migration("active"), done),
            *(migration("pre-switchover"), done),
            *(migration("completed"), done),
            progress,
        ],
        [done, done, migration("completed"), done],
        [jobs, done, job(0, "concluded"), job(1, "concluded"), job(0, "ready"), job(1, "ready"), done],
    )
    greeting = {"QMP": {"version": {}, "capabilities": []}}
    return [
        bytes([number]) + b"\n".join(json.dumps(line).encode() for line in (greeting, done, *script))
        for number, script in enumerate(scripts)
    ]


# ---- a disk's process


def feed_disk_line(data: bytes) -> bool:
    """A mark of its length, an error that says why, or nonsense of a foreseen kind."""
    try:
        (mark,) = _read_document(data, {"mark": MARK_BYTES})
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    except (DiskError, HostError):
        return True
    assert len(mark) == MARK_BYTES
    return True


def disk_lines() -> list[bytes]:
    """A mark, and errors of both kinds."""
    return [
        b'{"mark": "' + b"00" * MARK_BYTES + b'"}',
        b'{"error": "wrong_disk_root", "detail": "x"}',
        b'{"error": "disk_full", "detail": "", "fault": "HostError"}',
    ]
