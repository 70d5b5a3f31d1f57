"""Copying a running guest's disks to another node, while it runs: QEMU's mirror to an export of the other QEMU.

    source QEMU -> socket pair -> our pump -> a stream for each disk -> pump there -> NBD server of the other QEMU

    destination     one byte 1, once its disk can be written; then NBD in both directions

The other QEMU writes to its own process of that disk, under the disk's key, as the guest will. Both copies are the same
from the moment that the guest stands still (`Mirrors.finish`) until either of them is run.
"""

import contextlib
import socket
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
import trio

from tccp.errors import HostError
from tccp.node.vm.pump import Pump
from tccp.node.vm.qmp import Qmp, QmpEvent, count_of, object_of
from tccp.node.vm.streams import BulkStream
from tccp.node.vm.talk import BROKEN

READY = b"\1"
GIVE_UP_S = 10.0
LOOK_S = 0.01
LISTENER_NAME = "disks"
_FAILED = frozenset({"aborting"})
_OVER = frozenset({"concluded", "null"})

log = structlog.get_logger()


@dataclass(slots=True)
class Mirrors:
    """The disks that are being copied, made by `mirroring`; what the guest writes follows."""

    qmp: Qmp
    count: int
    events: "trio.MemoryReceiveChannel[QmpEvent]"
    pumps: list[Pump] = field(default_factory=list)

    @property
    def sent_bytes(self) -> int:
        """How much has gone over all wires."""
        return sum(pump.sent_bytes for pump in self.pumps)

    async def left(self) -> tuple[int, int]:
        """How much is still to be copied, and all that is; bytes of the disks.

        Raises:
            HostError: QEMU has ended, or says nonsense.
        """
        jobs = await self.qmp.execute("query-block-jobs") if self.count else []
        if not isinstance(jobs, list) or len(jobs) > self.count:
            raise HostError("qmp_malformed", f"QEMU has other jobs than {self.count} copies")
        lengths = [(count_of(object_of(job).get("len")), count_of(object_of(job).get("offset"))) for job in jobs]
        return sum(max(length - offset, 0) for length, offset in lengths), sum(length for length, _ in lengths)

    async def finish(self) -> None:
        """Copy the last of it; the guest stands still.

        Raises:
            HostError: ``mirror_failed``: a copy is not whole.
        """
        for number in range(self.count):
            await self.qmp.execute("block-job-cancel", {"device": _job(number)})
        await _until(self.events, self.count, _OVER)

    async def give_up(self) -> None:
        """Leave the copies as they are, and go on without them."""
        with contextlib.suppress(HostError):
            for number in range(self.count):
                with contextlib.suppress(HostError):
                    await self.qmp.execute("block-job-cancel", {"device": _job(number), "force": True})
            await _jobs_gone(self.qmp)
            for number in range(self.count):
                with contextlib.suppress(HostError):
                    await self.qmp.execute("blockdev-del", {"node-name": _target(number)})


@contextlib.asynccontextmanager
async def mirroring(qmp: Qmp, streams: Sequence[BulkStream], begin: Callable[..., None]) -> AsyncGenerator[Mirrors]:
    """Copy each disk through its stream, and keep the copies up to date until the end of the block.

    Args:
        begin: Starts what runs beside it.

    Raises:
        HostError: ``mirror_failed``.
    """
    with qmp.listening("JOB_STATUS_CHANGE") as events, contextlib.ExitStack() as ends:
        mirrors = Mirrors(qmp, 0, events)
        try:
            for number, stream in enumerate(streams):
                ours = await _add_target(qmp, number, stream)
                ends.callback(_cut, ours)
                mirrors.pumps.append(Pump(stream, ours))
                begin(_carry, mirrors.pumps[-1], ours)
                await _use_target(qmp, number)
                mirrors.count += 1
                await qmp.execute("blockdev-mirror", _mirror(number))
            await _until(events, len(streams), frozenset({"ready"}))
            yield mirrors
        finally:
            ends.close()  # QEMU waits for nobody who is not there
            with trio.CancelScope(shield=True, deadline=trio.current_time() + GIVE_UP_S):
                await mirrors.give_up()


async def _add_target(qmp: Qmp, number: int, stream: BulkStream) -> socket.socket:
    # QEMU waits for the export with all that it does; so it asks only once it is there.
    try:
        said = await stream.receive_some(len(READY))
    except BROKEN:
        said = b""
    if bytes(said) != READY:
        raise HostError("mirror_failed", "the other node takes no disk")
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            await qmp.execute("getfd", {"fdname": _target(number)}, descriptor=theirs.fileno())
        except BaseException:
            ours.close()
            raise
    return ours


async def _use_target(qmp: Qmp, number: int) -> None:
    server = {"type": "fd", "str": _target(number)}
    node = {"driver": "nbd", "node-name": _target(number), "server": server, "export": _export(number)}
    await qmp.execute("blockdev-add", {**node, "discard": "unmap", "detect-zeroes": "unmap"})


@contextlib.asynccontextmanager
async def taking_disks(qmp: Qmp, streams: Sequence[BulkStream]) -> AsyncGenerator[None]:
    """Let the disks of this QEMU, which waits for its guest's state, be written by the other end of each stream.

    Raises:
        HostError: QEMU does not serve them.
    """
    if not streams:
        yield
        return
    async with trio.open_nursery() as nursery:
        with _listener(len(streams)) as (listener, connections):
            await qmp.execute("getfd", {"fdname": LISTENER_NAME}, descriptor=listener.fileno())
            address = {"type": "fd", "data": {"str": LISTENER_NAME}}
            await qmp.execute("nbd-server-start", {"addr": address, "max-connections": len(streams)})
            for number, (stream, connection) in enumerate(zip(streams, connections, strict=True)):
                export = {"type": "nbd", "id": _export(number), "node-name": f"disk{number}", "name": _export(number)}
                await qmp.execute("block-export-add", {**export, "writable": True})
                nursery.start_soon(_serve, connection, stream)
            yield
            await qmp.execute("nbd-server-stop")
        nursery.cancel_scope.cancel()


async def _serve(connection: socket.socket, stream: BulkStream) -> None:
    with contextlib.suppress(*BROKEN):
        await stream.send_all(READY)
        await _carry(Pump(stream, connection), connection)


async def _carry(pump: Pump, ours: socket.socket) -> None:
    """Until either end is closed; who waits for the copy learns from QEMU whether it is whole."""
    with ours:
        try:
            await pump.run()
        except HostError as problem:
            log.debug("disk_stream", reason=problem.reason, detail=problem.detail)


def _cut(ours: socket.socket) -> None:
    """QEMU finds nobody at the other end any more."""
    with contextlib.suppress(OSError):  # it was closed
        ours.shutdown(socket.SHUT_RDWR)


@contextmanager
def _listener(count: int) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket, and *count* connections to it. Its name has gone on return."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(count)]
        with tempfile.TemporaryDirectory(prefix="tccp-disks-") as folder:  # mode 0700
            listener.bind(f"{folder}/disks")
            listener.listen(count)
            for connection in connections:
                connection.connect(f"{folder}/disks")
        yield listener, connections


async def _until(events: "trio.MemoryReceiveChannel[QmpEvent]", count: int, wanted: frozenset[str]) -> None:
    """Until *count* jobs have come to one of the states *wanted*."""
    there: set[str] = set()
    if count == 0:
        return
    async for event in events:
        job, status = event.text("id"), event.text("status")
        if status in _FAILED or (status in _OVER and not wanted & _OVER):
            raise HostError("mirror_failed", f"copying {job} {status}")
        if status in wanted:
            there.add(job)
        if len(there) == count:
            return
    raise HostError("qmp_gone", "QEMU has ended while its disks were copied")


async def _jobs_gone(qmp: Qmp) -> None:
    while await qmp.execute("query-block-jobs"):  # noqa: ASYNC110 - somebody else may take the events
        await trio.sleep(LOOK_S)


def _mirror(number: int) -> dict[str, object]:
    # Of a disk over nothing, "top" is all that its server calls allocated: what is not as in the image (tccp:changed).
    # The copy is a new disk over the same image, so it has the rest.
    return {"job-id": _job(number), "device": f"disk{number}", "target": _target(number), "sync": "top"}


def _job(number: int) -> str:
    return f"copy{number}"


def _target(number: int) -> str:
    return f"there{number}"


def _export(number: int) -> str:
    return f"export{number}"
