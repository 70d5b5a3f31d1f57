"""Hosts that are examined, and what waits for what."""

from pathlib import Path

import pytest
import trio

from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.policy import TrustedPlatform
from tccp.config import ImaConfig
from tccp.coordinator.examination import Examiner, KnownBoot
from tccp.coordinator.ima_policies import ImaPolicies
from tccp.coordinator.measured_before import MeasuredBefore
from tccp.store import open_store
from tests.support import boots

QUOTE, LOG = boots.quote_of(boots.HONEST), boots.log_of(boots.HONEST)


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
