"""A confined child process on trio: started, watched, ended whatever happens."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable

import trio

from tccp.core.child import ChildSpec, start_child
from tccp.errors import HostError

OUTPUT_BYTES_KEPT = 4096
LAST_WORDS_S = 1.0


class Child:
    """A running child, made by `open_child`. Waiting for it is for any number of tasks."""

    def __init__(self, name: str, pid: int, pidfd: int, output: int) -> None:
        self.name = name
        self.pid = pid
        self._pidfd = pidfd
        self._output = trio.lowlevel.FdStream(output)
        self._said = b""
        self._over = trio.Event()
        self.status: int | None = None

    @property
    def said(self) -> str:
        """The end of what it wrote to its output and error, for our log."""
        return self._said.decode(errors="replace").strip()

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0."""
        return -self.status if self.status is not None and self.status < 0 else 0

    async def wait(self) -> int:
        """Until it has ended: its exit status, or minus the signal that ended it."""
        await self._over.wait()
        assert self.status is not None
        return self.status

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def kill(self) -> None:
        """Kill it, and return when it is gone."""
        self.send(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await self.wait()

    async def watch(self) -> None:
        """Until it has ended; beyond cancellation, for `kill` waits for this."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                await trio.lowlevel.wait_readable(self._pidfd)
                _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222 - it has ended
                self.status = os.waitstatus_to_exitcode(status)
                os.close(self._pidfd)
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_S
            self._over.set()

    async def _listen(self) -> None:
        async with self._output:
            async for data in self._output:
                self._said = (self._said + data)[-OUTPUT_BYTES_KEPT:]


async def start(
    name: str, spec: ChildSpec, nursery: trio.Nursery, guard: Callable[[int], None] = lambda _pidfd: None
) -> Child:
    """Start a child whose output we keep the end of. The caller kills it before *nursery* ends.

    Args:
        name: For messages.
        spec: Its ``output`` is replaced.
        guard: Is given its pidfd before anything else is done with it.

    Raises:
        HostError: ``no_child``, see `start_child`; or what *guard* says: then it is killed.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = start_child(dataclasses.replace(spec, output=writer))
    except HostError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    child = Child(name, pid, pidfd, reader)
    nursery.start_soon(child.watch)
    try:
        guard(pidfd)
    except HostError:
        await child.kill()
        raise
    return child
