"""Wires between daemons that a test can cut: both ways, without either end being told, until they are mended.

What was under way when a wire was cut is lost; who connects meanwhile waits, as for a SYN that nobody answers.
"""

import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import trio

LOOK_S = 0.02
PIECE_BYTES = 65_536
HOST = "127.0.0.1"

Target = Callable[[trio.SocketStream], Awaitable[str]]


@dataclass(slots=True)
class Wire:
    """Everything that connects to one port of ours.

    Attributes:
        target: Where it is to go, ``host:port``; may read that from the connection.
    """

    target: Target
    port: int = 0
    is_cut: bool = False
    open: set[trio.CancelScope] = field(default_factory=set)

    async def serve(self, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        self.port = listener.socket.getsockname()[1]
        async with listener, trio.open_nursery() as nursery:
            task_status.started()
            while True:
                connection = await listener.accept()
                await self._mended()
                nursery.start_soon(self._join, connection)

    async def _mended(self) -> None:
        while self.is_cut:  # noqa: ASYNC110 - another thread cuts
            await trio.sleep(LOOK_S)

    async def _join(self, near: trio.SocketStream) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, ValueError), trio.CancelScope() as scope:
            self.open.add(scope)
            try:
                async with near:
                    host, _, port = (await self.target(near)).rpartition(":")
                    async with await trio.open_tcp_stream(host, int(port)) as far, trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, near, far, nursery)
                        nursery.start_soon(self._pump, far, near, nursery)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self.open.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
        while data := await source.receive_some(PIECE_BYTES):
            if self.is_cut:
                await trio.sleep_forever()
            await sink.send_all(data)
        if self.is_cut:
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()


class Wires:
    """All of them, in a thread of their own that outlives tests."""

    def __init__(self, **targets: Target) -> None:
        self.by_name = {name: Wire(target) for name, target in targets.items()}
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=[self._run], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()

    def cut(self, name: str) -> None:
        """Nothing goes through any more."""
        self.by_name[name].is_cut = True

    def mend(self, name: str) -> None:
        """New connections go through; the old ones break."""
        wire = self.by_name[name]
        wire.is_cut = False
        assert self._token is not None
        self._token.run_sync_soon(lambda: [scope.cancel() for scope in list(wire.open)])

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                for wire in self.by_name.values():
                    await nursery.start(wire.serve)
                self._ready.set()


def always(address: str) -> Target:
    """To one address."""

    async def target(_connection: trio.SocketStream) -> str:
        await trio.lowlevel.checkpoint()
        return address

    return target


async def as_it_says(connection: trio.SocketStream) -> str:
    """Whoever connects says first where it is to go, as a line."""
    said = b""
    while not said.endswith(b"\n"):
        said += await connection.receive_some(1) or b"\n"
    return said.decode().strip()
