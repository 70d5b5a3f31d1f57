"""A request that was said again gets two answers, and the second is none: what runs by the first goes on."""

import pytest
import trio
import trio.testing

from tccp.store import VmState
from tests.support.launching import Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode


async def test_keys_that_come_twice_end_nothing_and_give_nothing_back(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator has been slow for a minute, and answers both. A VM that runs would be on record as ended, and
    could be started elsewhere at the same time."""
    receipt, may_answer = coordinator.services.log.receipt, trio.Event()

    async def slowly(seq: int) -> bytes:
        await may_answer.wait()
        return await receipt(seq)

    monkeypatch.setattr(coordinator.services.log, "receipt", slowly)
    (session,) = coordinator.services.sessions.judged_by("tvmm")
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk])
    alpha.node.vms.launch(ticket_file(signed), [disk.path])
    with trio.fail_after(DEADLINE_S):
        while session.key_requests < 1:  # noqa: ASYNC110 - nobody tells of that
            await trio.sleep(0.001)
        with monkeypatch.context() as patched:
            patched.setattr("tccp.node.key_desk.ASK_AGAIN_S", 0.0)
            alpha.node.desk.say()
        while session.key_requests < 2:  # noqa: ASYNC110
            await trio.sleep(0.001)

    may_answer.set()

    assert (await alpha.until(vm.vm_id, "running")).epoch == 1
    with trio.fail_after(DEADLINE_S):
        while session.key_requests:  # noqa: ASYNC110
            await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked(0.02)
        await alpha.node.desk.all_recorded()
    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    assert (record.state, record.epoch) == (VmState.RUNNING, 1)
    assert "stop" not in [event.kind for event in await coordinator.log()]
