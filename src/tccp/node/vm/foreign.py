"""Files that others name, opened and read by threads that may be given up: none holds up the loop, which renews the
lease, nor a VM that is to end.

What is no regular file is refused. One that lies on a server which does not answer costs the VM that wants it, as long
as somebody waits, and one of `THREADS_MAX` threads until the server answers.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import trio

THREADS_MAX = 1024  # of their own, so that nobody else has to wait for one; a VM takes one for each of its files

Result = TypeVar("Result")

_limiter: "trio.lowlevel.RunVar[trio.CapacityLimiter]" = trio.lowlevel.RunVar("foreign_files")


def open_foreign(path: Path) -> int:
    """A descriptor of the regular file *path*, for reading. Blocks as long as its server does; for a thread.

    Raises:
        OSError: It cannot be opened, or is something else: whoever opens a pipe waits for its other end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file")
    return descriptor


class _Handing(Generic[Result]):
    """A result on its way from a thread to whoever may have given it up."""

    def __init__(self, undo: Callable[[Result], None]) -> None:
        self._undo = undo
        self._lock = threading.Lock()
        self._results: list[Result] = []
        self._given_up = False

    def offer(self, result: Result) -> None:
        with self._lock:
            if not self._given_up:
                self._results.append(result)
                return
        self._undo(result)

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
        for result in self._results:  # it came in the moment in which it was given up
            self._undo(result)


async def abandonable(work: Callable[[], Result], undo: Callable[[Result], None] = lambda _result: None) -> Result:
    """What *work*, which may hang, returns in a thread. When the wait is cancelled the thread is left alone.

    Args:
        work: Uses no descriptor and no buffer that somebody else gives back.
        undo: Called with what nobody waited for.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(THREADS_MAX)
        _limiter.set(limiter)
    handing = _Handing(undo)

    def run() -> Result:
        result = work()
        handing.offer(result)
        return result

    try:
        return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=limiter)
    except trio.Cancelled:
        handing.give_up()
        raise
