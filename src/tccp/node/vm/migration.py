"""QEMU's migration stream, out and in, through a descriptor that QEMU is handed.

The stream has the guest's memory, its devices, and the state of its vTPM (encrypted once more, under a key that is
derived from the VM's). Where it goes is for others to say: `tccp.node.vm.state` a sealed file, `tccp.node.vm.sending`
another node.

A QEMU that translates (TCG) may lose what a guest writes when QEMU looks which pages were written meanwhile: it forgets
that a page was, and does not catch the next write to it (docs/decisions/0068). So there it looks only while the guest
stands still: the guest is stopped for a moment at the start, its memory goes once while it runs, and what it has
written by then goes when it stands still again.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from tccp.errors import HostError
from tccp.node.vm.qmp import Qmp, QmpEvent, count_of, object_of

DESCRIPTOR_NAME = "state"
NO_LIMIT = 1 << 40  # bytes in a second; QEMU's own default is 128 MiB
DOWNTIME_MS = 30
GONE = "gone"
ACTIVE = "active"
PRE_SWITCHOVER = "pre-switchover"
CANCEL_S = 10.0
_OVER = frozenset({"completed", "failed", "cancelled"})
_NOTHING: Mapping[str, Callable[[], Awaitable[None]]] = {}


@dataclass(frozen=True, slots=True)
class Pace:
    """How a running guest's state is sent.

    Attributes:
        bytes_per_s: At most.
        downtime_ms: The guest is stopped once the rest takes no longer than this, by QEMU's reckoning; one that QEMU
            translates is stopped when its memory has gone once.
        slows_guest: Take processor time from a guest that writes to its memory faster than it is sent (auto-converge).
        repeats_differences: Send what changed in a page that was sent before (XBZRLE): fewer bytes, more work.
    """

    bytes_per_s: int = NO_LIMIT
    downtime_ms: int = DOWNTIME_MS
    repeats_differences: bool = False
    slows_guest: bool = True


@dataclass(frozen=True, slots=True)
class Sent:
    """How far it has come, or what it took in the end; in milliseconds and bytes.

    Attributes:
        downtime_ms: How long the guest stood still, as QEMU counts it; 0 before the end.
        left_bytes: Of the guest's memory, as of now.
        memory_bytes: All of it.
        rounds: How often memory was gone through.
    """

    total_ms: int
    downtime_ms: int
    sent_bytes: int
    left_bytes: int
    memory_bytes: int
    rounds: int


async def send_out(
    qmp: Qmp,
    descriptor: int,
    pace: Pace,
    *,
    standing_still: Callable[[], Awaitable[None]] | None = None,
) -> Sent:
    """Write the state to *descriptor*, of which QEMU gets a copy, to the end; the guest stands still afterwards.

    When it fails or is cancelled, the guest is as it was before, or can go on by ``cont``.

    Args:
        standing_still: Called when the guest has been stopped, before the last of its state is written; None: the
            guest need not wait for anything then.

    Raises:
        HostError: ``migration_failed``: it could not be written; or as for `Qmp.execute`.
    """
    in_one_pass = await _runs_translated(qmp)

    async def switch_over() -> None:
        if standing_still is not None:
            await standing_still()
        await qmp.execute("migrate-continue", {"state": PRE_SWITCHOVER})

    steps = {PRE_SWITCHOVER: switch_over}
    if in_one_pass:
        steps[ACTIVE] = lambda: _go_on(qmp)
    # QEMU lets no guest go on that has come to this pause: so `_go_on` cannot come too late, after the end of it all.
    pauses = in_one_pass or standing_still is not None
    await _prepare(qmp, pace, pauses=pauses, downtime_ms=0 if in_one_pass else pace.downtime_ms)
    with qmp.listening("MIGRATION") as events:
        await qmp.execute("getfd", {"fdname": DESCRIPTOR_NAME}, descriptor=descriptor)
        if in_one_pass:
            await qmp.execute("stop")
        await qmp.execute("migrate", {"uri": f"fd:{DESCRIPTOR_NAME}"})
        status = ""
        try:
            status = await _end(events, steps)
        finally:
            if not status:
                await _cancel(qmp, events)
    _check_gone(status)
    if status != "completed":
        why = object_of(await qmp.execute("query-migrate")).get("error-desc")
        raise HostError("migration_failed", why if isinstance(why, str) else status)
    return await query(qmp)


async def take_in(qmp: Qmp, descriptor: int) -> None:
    """Have a QEMU that was started for it read its state from *descriptor*; the guest is paused afterwards.

    Raises:
        HostError: ``migration_failed``, or as for `Qmp.execute`: QEMU ends when the stream is not whole.
    """
    await qmp.execute("migrate-set-capabilities", {"capabilities": _capabilities(events=True)})
    with qmp.listening("MIGRATION") as events:
        await qmp.execute("getfd", {"fdname": DESCRIPTOR_NAME}, descriptor=descriptor)
        await qmp.execute("migrate-incoming", {"uri": f"fd:{DESCRIPTOR_NAME}"})
        status = await _end(events)
    _check_gone(status)
    if status != "completed":
        raise HostError("migration_failed", f"reading the state {status}")


async def _cancel(qmp: Qmp, events: "trio.MemoryReceiveChannel[QmpEvent]") -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_S), contextlib.suppress(HostError):
        await qmp.execute("migrate_cancel")
        await _end(events)


async def query(qmp: Qmp) -> Sent:
    """How far the last migration out of this QEMU has come."""
    said = object_of(await qmp.execute("query-migrate"))
    ram = object_of(said.get("ram", {}))
    return Sent(
        total_ms=count_of(said.get("total-time", 0)),
        downtime_ms=count_of(said.get("downtime", 0)),
        sent_bytes=count_of(ram.get("transferred", 0)),
        left_bytes=count_of(ram.get("remaining", 0)),
        memory_bytes=count_of(ram.get("total", 0)),
        rounds=count_of(ram.get("dirty-sync-count", 0)),
    )


async def _runs_translated(qmp: Qmp) -> bool:
    accelerated = object_of(await qmp.execute("query-kvm")).get("enabled") is True
    return not accelerated and object_of(await qmp.execute("query-status")).get("running") is True


async def _go_on(qmp: Qmp) -> None:
    """QEMU has noted all pages as written and begins to send them: from here on it catches each first write."""
    try:
        await qmp.execute("cont")
    except HostError as problem:
        if problem.reason != "qmp_refused":  # it has stopped for good already, so little is its memory
            raise


async def _prepare(qmp: Qmp, pace: Pace, *, pauses: bool, downtime_ms: int) -> None:
    wanted = {"events": True, "auto-converge": pace.slows_guest, "pause-before-switchover": pauses}
    capabilities = _capabilities(**wanted, xbzrle=pace.repeats_differences)
    await qmp.execute("migrate-set-capabilities", {"capabilities": capabilities})
    parameters = {"max-bandwidth": pace.bytes_per_s, "downtime-limit": downtime_ms}
    await qmp.execute("migrate-set-parameters", parameters)


def _capabilities(**wanted: bool) -> list[dict[str, object]]:
    return [{"capability": name, "state": state} for name, state in wanted.items()]


def _check_gone(status: str) -> None:
    if status == GONE:
        raise HostError("qmp_gone", "QEMU has ended in the middle of a migration")


async def _end(
    events: "trio.MemoryReceiveChannel[QmpEvent]", steps: Mapping[str, Callable[[], Awaitable[None]]] = _NOTHING
) -> str:
    """How it ends; on the way there each of *steps* is taken once, when QEMU says the word for it."""
    left = dict(steps)
    async for event in events:
        status = event.text("status")
        if status in _OVER:
            return status
        if status in left:
            await left.pop(status)()
    return GONE
