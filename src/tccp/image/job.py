"""Running a job of the C core beside the thread that can be interrupted."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tccp.core.image import CancelledError, ImageProgress

Result = TypeVar("Result")
Watch = Callable[[ImageProgress], None]

# How often progress is shown, and a signal noticed at the latest.
POLL_S = 0.1
# How long a cancelled job may take to end. It takes longer only where a file's server does not answer.
CANCEL_S = 2.0


class _Outcome(Generic[Result]):
    def __init__(self) -> None:
        self.result: Result | None = None
        self.error: BaseException | None = None


def run_job(job: Callable[[ImageProgress], Result], watch: Watch | None = None) -> Result:
    """Run *job* in a thread of its own and call *watch* with its progress now and then, once more at the end.

    Whatever interrupts this thread (Ctrl-C) cancels the job.
    """
    progress, outcome = ImageProgress(), _Outcome[Result]()

    def work() -> None:
        try:
            outcome.result = job(progress)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            outcome.error = error

    # A daemon: a job that hangs in a system call does not keep an interrupted process alive.
    thread = threading.Thread(target=work, name="tccp-image", daemon=True)
    thread.start()
    running = True
    try:
        while running:
            thread.join(POLL_S)
            running = thread.is_alive()
            if watch is not None:
                watch(progress)
    except BaseException:
        progress.cancel()
        thread.join(CANCEL_S)
        raise
    if isinstance(outcome.error, CancelledError):
        raise KeyboardInterrupt from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome.result  # type: ignore[return-value]
