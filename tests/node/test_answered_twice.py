"""A request that was said again gets two answers, and the second is none: what runs by the first goes on."""

import pytest
import trio

from tccp.protocol.messages import KeyRelease, KeyRequest, VmAnswer
from tccp.store import VmState
from tests.support.launching import Tenant, ticket_file
from tests.support.live_coordinator import DEADLINE_S, LiveCoordinator
from tests.support.live_node import LiveNode


async def test_keys_that_come_twice_end_nothing_and_give_nothing_back(
    coordinator: LiveCoordinator, alpha: LiveNode, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node asks again after a minute, and the answer may be on its way just then. A VM that runs would be on record
    as ended, and could be started elsewhere at the same time."""
    receipt, may_answer = coordinator.services.log.receipt, trio.Event()

    async def slowly(seq: int) -> bytes:
        await may_answer.wait()
        return await receipt(seq)

    monkeypatch.setattr(coordinator.services.log, "receipt", slowly)
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk])
    alpha.node.vms.launch(ticket_file(signed), [disk.path])
    await alpha.until(vm.vm_id, "asking")
    with trio.fail_after(DEADLINE_S):
        while not (asked := [said for said in alpha.node.desk._open.values() if isinstance(said, KeyRequest)]):  # noqa: ASYNC110 - nobody tells of that
            await trio.sleep(0.001)
    taken: list[VmAnswer] = []
    take = alpha.node.desk.take

    def note(message: VmAnswer, lease_id: bytes) -> None:
        taken.append(message)
        take(message, lease_id)

    monkeypatch.setattr(alpha.node.desk, "take", note)
    may_answer.set()
    assert (await alpha.until(vm.vm_id, "running")).epoch == 1
    assert alpha.node.desk._connection is not None

    await alpha.node.desk._connection.send(asked[0])

    with trio.fail_after(DEADLINE_S):
        while [type(answer) for answer in taken].count(KeyRelease) < 2:  # noqa: ASYNC110 - nobody tells of that
            await trio.sleep(0.001)
        await alpha.node.desk.all_recorded()
    record = await coordinator.store.vm(vm.vm_id)
    assert record is not None
    assert (record.state, record.epoch) == (VmState.RUNNING, 1)
    assert "stop" not in [event.kind for event in await coordinator.log()]
