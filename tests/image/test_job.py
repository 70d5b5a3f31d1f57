"""A job of the C core runs beside the thread that waits for it, and ends with it."""

import os
import threading

import pytest

from tccp.core.image import CancelledError, ImageProgress
from tccp.errors import HostError
from tccp.image import job as job_module
from tccp.image.job import run_job


def test_the_result_of_a_job_comes_back() -> None:
    threads: list[threading.Thread] = []

    def job(progress: ImageProgress) -> str:
        assert (progress.total_bytes, progress.done_bytes) == (0, 0)
        threads.append(threading.current_thread())
        return "done"

    assert run_job(job) == "done"
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon, "one that hangs would keep an interrupted process alive"


def test_what_a_job_raises_is_raised_to_who_waits() -> None:
    problem = HostError("enospc", "no room")

    def job(_progress: ImageProgress) -> None:
        raise problem

    with pytest.raises(HostError) as raised:
        run_job(job)
    assert raised.value is problem


def test_progress_is_shown_once_more_at_the_end() -> None:
    seen: list[int] = []

    def job(progress: ImageProgress) -> None:
        progress.struct.done_bytes = 7

    run_job(job, lambda progress: seen.append(progress.done_bytes))
    assert seen[-1] == 7


def test_who_is_interrupted_cancels_the_job_and_waits_for_its_end() -> None:
    ended = threading.Event()

    def job(progress: ImageProgress) -> None:
        while not progress.struct.cancel:
            os.sched_yield()
        ended.set()
        raise CancelledError

    def watch(_progress: ImageProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, watch)
    assert ended.is_set()


def test_a_job_that_does_not_end_keeps_nobody_who_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "CANCEL_S", 0.01)
    may_end, ended = threading.Event(), threading.Event()

    def job(_progress: ImageProgress) -> None:
        may_end.wait()
        ended.set()

    def watch(_progress: ImageProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, watch)
    assert not ended.is_set()
    may_end.set()
    ended.wait()


def test_progress_is_shown_again_and_again_until_a_job_ends() -> None:
    shown = threading.Semaphore(0)

    def job(_progress: ImageProgress) -> str:
        for _ in range(2):
            shown.acquire()
        return "done"

    assert run_job(job, lambda _progress: shown.release()) == "done"


def test_a_job_that_was_cancelled_by_somebody_else_counts_as_interrupted() -> None:
    def job(_progress: ImageProgress) -> None:
        raise CancelledError

    with pytest.raises(KeyboardInterrupt) as interrupted:
        run_job(job)
    assert isinstance(interrupted.value.__cause__, CancelledError)
