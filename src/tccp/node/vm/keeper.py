"""The keeper: a process of its own that kills all VMs when the time that we last gave them is over.

A daemon that hangs - stopped, starved, waiting for a disk that never answers - stops no VM. The keeper needs to do
nothing but wait: it has a descriptor of every process of every VM and a clock (csrc/keeper.c). It starts with no time
at all, so that a VM for which nobody has said how long it may run does not run.
"""

import array
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator

import trio

from tccp.core.child import ChildSpec
from tccp.core.keeper import GUARDED_MAX, MESSAGE_BYTES
from tccp.errors import HostError
from tccp.node.vm.child import Child, start

ANSWER_S = 10.0
# It runs from the very modules that we run from.
_CHILD = "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from tccp.core.keeper import keep; keep(3)"
_INTERPRETER = frozenset({"LD_LIBRARY_PATH"})
_SPARE_FILES = 64


class Keeper:
    """A running keeper, made by `open_keeper`. When its process has ended, whatever it guarded has been killed."""

    def __init__(self, child: Child, control: socket.socket) -> None:
        self.child = child
        self._control = control
        self._deadline = 0.0
        self._asking = trio.Lock()

    @property
    def is_past(self) -> bool:
        """Whether the time that it was given is over."""
        return self._deadline <= boottime()

    async def allow_until(self, deadline: float) -> None:
        """What is guarded may run until *deadline* (CLOCK_BOOTTIME, in seconds), and is killed then.

        It holds on return. An earlier one than before is as good.

        Raises:
            HostError: ``no_keeper``: there is none any more, so nothing runs any more.
        """
        async with self._asking:
            await self._allow_until(deadline)

    async def _allow_until(self, deadline: float) -> None:
        said = max(0, int(deadline * 1e9)).to_bytes(MESSAGE_BYTES, sys.byteorder)
        control = trio.socket.from_stdlib_socket(self._control.dup())
        with control, trio.CancelScope(shield=True, deadline=trio.current_time() + ANSWER_S):
            try:
                await control.send(said)
                answer = await control.recv(MESSAGE_BYTES)
            except OSError:
                answer = b""
            if answer == said:
                self._deadline = deadline
                return
        await self.child.kill()
        raise HostError("no_keeper", "the keeper of VMs does not answer, and was ended with all of them")

    def guard(self, pidfd: int) -> None:
        """Hand a process over. What has ended is guarded no longer.

        Raises:
            HostError: ``no_keeper``.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
        try:
            self._control.sendmsg([bytes(MESSAGE_BYTES)], rights)
        except OSError as problem:
            raise HostError("no_keeper", f"the keeper of VMs takes nothing: {problem.strerror}") from problem


def boottime() -> float:
    """The clock of deadlines, in seconds; it goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.asynccontextmanager
async def open_keeper(python: int, nursery: trio.Nursery) -> AsyncGenerator[Keeper]:
    """Start a keeper; at the end of the block it ends, and kills what it still guards.

    Args:
        python: The descriptor of our interpreter's program.

    Raises:
        HostError: It cannot be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)
        spec = ChildSpec(
            python,
            [sys.executable, "-I", "-B", "-c", _CHILD, os.pathsep.join(sys.path)],
            output=-1,
            descriptors=[theirs.fileno()],
            environment={name: value for name, value in os.environ.items() if name in _INTERPRETER},
            files_max=GUARDED_MAX + _SPARE_FILES,
            keeps_privileges=True,
        )
        with theirs:
            child = await start("keeper", spec, nursery)
        keeper = Keeper(child, ours)
        try:
            await keeper.allow_until(0.0)  # it is there
            yield keeper
        finally:
            ours.close()
            await child.kill()
