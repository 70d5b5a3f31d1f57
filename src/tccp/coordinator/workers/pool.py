"""The coordinator's workers: started, given what they need, listened to, started again when one ends.

    nodes === TLS ===> worker 1 --+
    nodes === TLS ===> worker 2 --+-- links --> sessions, verdicts, store, log: this process alone
                 (one listening socket)

Whatever a node says is judged here, as if this process held the socket: `WorkerStream` has the face of a `TlsStream`.
A worker that ends takes its connections along and nothing else: leases stand in the record, and nodes come back. See
decision 0042.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
import trio

from tccp.config import CoordinatorConfig, LogConfig
from tccp.coordinator.sessions import Counters
from tccp.coordinator.workers.link import Kind, Link, Opened, Start
from tccp.coordinator.workers.stream import WorkerStream, problem_of
from tccp.errors import HostError, ProtocolError
from tccp.protocol.encoding import decode
from tccp.transport.accepting import forgiving
from tccp.transport.certificates import KeyPair
from tccp.transport.connection import Stream
from tccp.transport.errors import PeerGoneError

RESTART_S = 0.5
STARTS_IN_VAIN_MAX = 5  # one after the other; then a restart of everything may help, and an operator sees it
START_S = 30.0
PING_EVERY_S = 10.0
SILENCE_S = 30.0
FINISH_S = 6.0  # for what was said last to reach the nodes
LEAVE_S = 5.0  # for sessions to notice that their worker is gone; whatever one waits for, the next worker does not
# What systemd says to the coordinator is not meant for its children.
NOT_INHERITED = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"})

Serve = Callable[[Stream, str], Awaitable[None]]

log = structlog.get_logger()


class WorkerPool:
    """All workers; `run` must be running.

    Args:
        config: Says how many, and how many connections they may take in together.
        tls: The coordinator's TLS key and certificate.
        authorities: Who certifies what nodes show, PEM.
        listeners: Where nodes connect.
        serve: Serves one connection whose handshake is done, and raises what `forgiving` forgives.
        counters: Where ends are counted.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        tls: KeyPair,
        authorities: Sequence[bytes],
        listeners: Sequence[trio.SocketListener],
        *,
        serve: Serve,
        counters: Counters,
    ) -> None:
        share = -(-config.listen.connections_max // config.listen.workers)
        self._start = Start(config.log, tls.certificate, tls.key, tuple(authorities), share)
        self._count, self._serve, self._counters = config.listen.workers, serve, counters
        self._workers: dict[int, _Worker] = {}
        self._fds = [listener.socket.fileno() for listener in listeners]

    async def run(self, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers, until cancelled; started when all of them take connections in.

        Raises:
            HostError: ``workers_fail``: one cannot be started, again and again.
        """
        ready = [trio.Event() for _ in range(self._count)]
        async with trio.open_nursery() as nursery:
            for number, event in enumerate(ready, 1):
                nursery.start_soon(self._keep, number, event)
            for event in ready:
                await event.wait()
            task_status.started()

    def log_as(self, config: LogConfig) -> None:
        """Have all workers, and those that are started from now on, log as *config* says."""
        self._start = msgspec.structs.replace(self._start, log=config)
        for worker in self._workers.values():
            worker.log_as(config)

    async def _keep(self, number: int, ready: trio.Event) -> None:
        in_vain = 0
        while True:
            worker = self._workers[number] = _Worker(number, lambda: self._start, self._serve, ready)
            await worker.live(self._fds)
            self._counters.worker_ends += 1
            in_vain = 0 if worker.was_ready else in_vain + 1
            if in_vain >= STARTS_IN_VAIN_MAX:
                raise HostError("workers_fail", f"worker {number} has ended {in_vain} times before it was ready")
            await trio.sleep(RESTART_S)


class _Worker:
    """One process, from its start to its end.

    Args:
        start: What it is to be given, when it comes to that.
    """

    def __init__(self, number: int, start: Callable[[], Start], serve: Serve, ready: trio.Event) -> None:
        self._number, self._start, self._serve, self._ready = number, start, serve, ready
        self._link: Link | None = None
        self._streams: dict[int, WorkerStream] = {}
        self._alive = trio.Event()
        self._is_given_keys = False
        self.was_ready = False

    async def live(self, listener_fds: Sequence[int]) -> None:
        """Start it, and serve those whom it takes in until it ends; when cancelled, end it after our last words."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                process = await self._open_process(theirs.fileno(), listener_fds)
            except OSError as problem:
                log.error("worker_not_started", worker=self._number, detail=str(problem))
                return
            theirs.close()
            self._link = link = Link(ours, on_full=process.kill)
            try:
                await self._converse(link, process)
                log.error("worker_ended", worker=self._number, status=process.poll(), connections=len(self._streams))
            finally:
                with trio.CancelScope(shield=True):
                    with trio.move_on_after(FINISH_S):
                        await link.finish()
                        await process.wait()
                    process.kill()
                    await process.wait()
                link.close()

    def log_as(self, config: LogConfig) -> None:
        """Have it log so; one that has been given nothing yet will be told with the rest."""
        if self._link is not None and self._is_given_keys:
            self._link.say(Kind.LOGS, content=msgspec.msgpack.encode(config))

    async def _open_process(self, link_fd: int, listener_fds: Sequence[int]) -> trio.Process:
        return await trio.lowlevel.open_process(
            [
                *(sys.executable, "-m", "tccp.coordinator.workers.child"),
                *("--link", str(link_fd), "--listeners", ",".join(map(str, listener_fds))),
            ],
            pass_fds=(link_fd, *listener_fds),
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in NOT_INHERITED},
        )

    async def _converse(self, link: Link, process: trio.Process) -> None:
        async with trio.open_nursery() as beside:
            beside.start_soon(link.write)
            beside.start_soon(self._ping, link, process)
            async with trio.open_nursery() as sessions:
                try:
                    async for kind, number, content in link.frames():
                        self._hear(link, sessions, kind, number, content)
                except (HostError, ProtocolError) as problem:
                    log.error("worker_nonsense", worker=self._number, detail=str(problem))
                    process.kill()
                for stream in self._streams.values():
                    stream.on_end(PeerGoneError("peer_gone", f"worker {self._number} has ended"))
                sessions.cancel_scope.deadline = trio.current_time() + LEAVE_S
            beside.cancel_scope.cancel()

    def _hear(self, link: Link, sessions: trio.Nursery, kind: Kind, number: int, content: bytes) -> None:
        if kind is Kind.DATA:
            if (stream := self._streams.get(number)) is not None:
                stream.on_data(content)
        elif kind is Kind.OPENED:
            opened: Opened = decode(content, Opened)
            stream = self._streams[number] = WorkerStream(link, number, opened.certificate)
            sessions.start_soon(self._serve_one, stream, opened.address)
        elif kind is Kind.ENDED:
            if (stream := self._streams.pop(number, None)) is not None:
                stream.on_end(problem_of(content))
        elif kind is Kind.PONG:
            self._alive.set()
            if not self._is_given_keys:  # no other process of our user can look into it any more
                self._is_given_keys = True
                link.say(Kind.START, content=msgspec.msgpack.encode(self._start()))
        elif kind is Kind.READY:
            self.was_ready = True
            self._ready.set()
            log.info("worker_ready", worker=self._number)
        else:
            raise HostError("worker_link", f"a worker says {kind.name}")

    async def _serve_one(self, stream: WorkerStream, address: str) -> None:
        with forgiving(address):
            await self._serve(stream, address)

    async def _ping(self, link: Link, process: trio.Process) -> None:
        """A worker whose loop hangs is ended: its nodes find another."""
        while True:
            self._alive = trio.Event()
            link.say(Kind.PING)
            with trio.move_on_after(SILENCE_S if self.was_ready else START_S):
                await self._alive.wait()
                await trio.sleep(PING_EVERY_S)
            if not self._alive.is_set():
                log.error("worker_silent", worker=self._number)
                process.kill()
                return
