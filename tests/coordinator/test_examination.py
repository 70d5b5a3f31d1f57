"""Hosts that are examined, and what waits for what."""

import threading
from pathlib import Path

import pytest
import trio

from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.boot_policy import BootPolicy
from tccp.attestation.ima import AcceptedMeasurements
from tccp.attestation.policy import TrustedPlatform
from tccp.attestation.quote import VerifiedQuote
from tccp.config import ImaConfig
from tccp.coordinator.examination import JUDGES, Examiner, KnownBoot
from tccp.coordinator.ima_policies import ImaPolicies
from tccp.coordinator.measured_before import MeasuredBefore
from tccp.store import open_store
from tests.support import boots

QUOTE, LOG = boots.quote_of(boots.HONEST), boots.log_of(boots.HONEST)
LONG = LOG + b" "  # stands for one whose judgement takes long


async def hold_the_threads_of_all(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Take each of the threads that everything else shares, as other judgements and quotes would."""
    limiter = trio.to_thread.current_default_thread_limiter()
    for holder in range(int(limiter.total_tokens)):
        await limiter.acquire_on_behalf_of(holder)
    try:
        task_status.started()
        await trio.sleep_forever()
    finally:
        for holder in range(int(limiter.total_tokens)):
            limiter.release_on_behalf_of(holder)


@pytest.mark.parametrize("event_log", [LOG, None], ids=["registering", "admitted"])
async def test_logs_are_judged_in_threads_of_their_own(
    event_log: bytes | None, tmp_path: Path, nursery: trio.Nursery
) -> None:
    async def fetch(*_: object) -> bytes:
        return LOG

    async with open_store(tmp_path / "db") as store:
        examiner = Examiner(ImaPolicies(ImaConfig()), MeasuredBefore(store, bytes(32)))
        await nursery.start(hold_the_threads_of_all)
        with trio.fail_after(30):
            platform = await examiner.examine(boots.policy(), QUOTE, KnownBoot(), fetch, event_log=event_log)
        assert isinstance(platform, TrustedPlatform)
        nursery.cancel_scope.cancel()


async def test_in_the_threads_of_all_they_would_wait_for_everybody(nursery: trio.Nursery) -> None:
    await nursery.start(hold_the_threads_of_all)
    with trio.move_on_after(0.1) as waiting:
        await trio.to_thread.run_sync(judge_boot, boots.policy(), QUOTE, LOG)
    assert waiting.cancelled_caught
    nursery.cancel_scope.cancel()


async def test_long_judgements_of_those_who_register_hold_nobody_up_who_is_admitted(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many of them as there are threads for them, and more, each of which lasts until the end of the test."""
    begun, over = threading.Semaphore(0), threading.Event()

    def judge(policy: BootPolicy, quote: VerifiedQuote, log: bytes, accepted: AcceptedMeasurements | None) -> object:
        if log is LONG:
            begun.release()
            over.wait()
        return judge_boot(policy, quote, LOG, accepted)

    monkeypatch.setattr("tccp.coordinator.examination.judge_boot", judge)

    async def fetch(*_: object) -> bytes:
        return LOG

    async with open_store(tmp_path / "db") as store:
        examiner = Examiner(ImaPolicies(ImaConfig()), MeasuredBefore(store, bytes(32)))

        async def register() -> None:
            await examiner.examine(boots.policy(), QUOTE, KnownBoot(), fetch, event_log=LONG)

        try:
            for _ in range(JUDGES + 1):
                nursery.start_soon(register)
            for _ in range(JUDGES):
                await trio.to_thread.run_sync(begun.acquire)
            with trio.fail_after(30):
                platform = await examiner.examine(boots.policy(), QUOTE, KnownBoot(), fetch)
            assert isinstance(platform, TrustedPlatform)
            with trio.move_on_after(0.1) as waiting:  # one more that registers does wait
                await examiner.examine(boots.policy(), QUOTE, KnownBoot(), fetch, event_log=LOG)
            assert waiting.cancelled_caught
        finally:
            over.set()
