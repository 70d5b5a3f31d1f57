"""What was accepted of a list is known after a restart of the coordinator, and is only a shortcut."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tccp.attestation import ima_memory
from tccp.coordinator import measured_before
from tccp.coordinator.measured_before import MeasuredBefore
from tccp.errors import StoreError
from tccp.model import NodeName, PcrBank, PcrSelection
from tccp.protocol.messages import HostLogRequest
from tccp.transport.connection import RefusalError
from tests.support.ima_lists import AGGREGATE, Entry, ng, written
from tests.support.live_coordinator import LiveCoordinator, live_coordinator, open_host
from tests.support.measured_host import (
    BOOTED,
    DAEMON,
    EVIL,
    INIT,
    SHELL,
    MeasuredNode,
    boot_policy,
    ima_policy,
    put_in_force,
)
from tests.support.soft_tpm import SoftTpm, SoftTpmPool

ALPHA = NodeName("alpha")
Running = Callable[[], AbstractAsyncContextManager[LiveCoordinator]]


@pytest.fixture
def soft_tpm(soft_tpms: SoftTpmPool) -> Iterator[SoftTpm]:
    """The TPM of a host that a test switches on and off."""
    with soft_tpms.lend() as lent:
        yield lent


@pytest.fixture
def running(coordinator_tpm: SoftTpm, tmp_path: Path) -> Running:
    """Starts the same coordinator, again and again."""
    (tmp_path / "ima").mkdir()
    return lambda: live_coordinator(tmp_path, coordinator_tpm, extra=f'[ima]\npolicies = "{tmp_path}/ima"')


@pytest.fixture
async def node(running: Running, soft_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[MeasuredNode]:
    """Admitted by a coordinator that has stopped since; it has forgotten what it was asked for."""
    async with open_host(soft_tpm) as host:
        async with running() as before:
            await put_in_force(before, boot_policy(ima=ima_policy(tmp_path / "ima")))
            await before.enrol("alpha", host)
            alpha = MeasuredNode(before, "alpha", host)
            await alpha.boot("direct", BOOTED)
            await alpha.register()
            alpha.leave()
        alpha.asked_for.clear()
        yield alpha


def ima_from(*entries: Entry) -> HostLogRequest:
    return HostLogRequest("ima", len(written(entries)))


async def again(running: Running, node: MeasuredNode) -> str:
    """Have *node* register with the coordinator, which is started anew; "" or why it is refused."""
    async with running() as after:
        node.coordinator = after
        try:
            await node.register()
        except RefusalError as refusal:
            return refusal.message.reason
        return ""


async def go_on(coordinator: LiveCoordinator, node: MeasuredNode) -> None:
    """*node* registers, runs a program, and renews: all that it has measured is accepted."""
    node.coordinator = coordinator
    await node.register()
    await node.run(DAEMON)
    await node.renew()


# ---- what it spares ----


async def test_a_restarted_coordinator_asks_for_what_came_since(running: Running, node: MeasuredNode) -> None:
    await node.run(DAEMON)

    assert not await again(running, node)
    assert node.asked_for == [ima_from(*BOOTED)]


async def test_a_host_that_measured_nothing_since_is_asked_for_nothing(running: Running, node: MeasuredNode) -> None:
    assert not await again(running, node)
    assert node.asked_for == []


async def test_what_renewals_have_accepted_is_known_as_well(running: Running, node: MeasuredNode) -> None:
    async with running() as between:
        await go_on(between, node)
        node.leave()
    node.asked_for.clear()
    await node.run(INIT)

    assert not await again(running, node)
    assert node.asked_for == [ima_from(*BOOTED, DAEMON)]


async def test_a_new_session_with_the_same_coordinator_needs_no_more(running: Running, node: MeasuredNode) -> None:
    async with running() as coordinator:
        await go_on(coordinator, node)
        node.leave()
        node.asked_for.clear()
        await node.register()
    assert node.asked_for == []


# ---- where it does not count ----


async def test_a_host_that_rebooted_shows_its_whole_list(
    running: Running, node: MeasuredNode, soft_tpm: SoftTpm
) -> None:
    await node.host.tpm.aclose()
    soft_tpm.reset()
    async with open_host(soft_tpm) as host:
        rebooted = MeasuredNode(node.coordinator, "alpha", host)
        await rebooted.boot("direct", [*BOOTED, DAEMON])

        assert not await again(running, rebooted)
        assert rebooted.asked_for == [ima_from()]


async def test_another_ima_policy_judges_the_whole_list(running: Running, node: MeasuredNode, tmp_path: Path) -> None:
    async with running() as coordinator:
        other = ima_policy(tmp_path / "ima", ng(b"more", b"/usr/bin/more"))
        await put_in_force(coordinator, boot_policy(version=2, ima=other))

    assert not await again(running, node)
    assert node.asked_for == [ima_from()]


async def test_a_list_that_begins_elsewhere_by_now_is_read_whole_and_is_no_alarm(
    running: Running, node: MeasuredNode
) -> None:
    """As if the kernel showed it with more bytes before the position: the whole of it still leads to PCR 10."""
    await node.run(DAEMON)
    whole = node.ima_list
    node.log_part = lambda asked: whole[asked.offset + 7 :] if asked.offset else whole  # type: ignore[method-assign]

    assert not await again(running, node)
    assert node.asked_for == [ima_from(*BOOTED), ima_from()]


async def test_an_entry_that_is_left_out_since_is_missed(running: Running, node: MeasuredNode) -> None:
    await node.run(EVIL, DAEMON)
    node.ima_list = written([*BOOTED, DAEMON])

    assert await again(running, node) == "ima_list_mismatch"
    assert node.asked_for[0] == ima_from(*BOOTED)
    assert ima_from() in node.asked_for


async def test_a_program_that_is_not_listed_is_found_behind_the_position(running: Running, node: MeasuredNode) -> None:
    await node.run(EVIL)

    assert await again(running, node) == "ima_entry_refused"


async def test_a_list_that_was_altered_before_the_position_helps_nobody(running: Running, node: MeasuredNode) -> None:
    """What is there was judged when it was accepted; what is shown of it later is not looked at."""
    await node.run(EVIL)
    node.ima_list = written([AGGREGATE, SHELL, INIT, DAEMON])

    assert await again(running, node) in {"ima_list_mismatch", "ima_entry_refused"}


# ---- the database is where others might write ----


async def forge(folder: Path, node: MeasuredNode) -> None:
    """Whoever has the disk writes down that what the host has measured by now was accepted."""
    await node.run(EVIL)
    path = folder / "state" / "coordinator.db"
    with sqlite3.connect(path) as database:
        (content,) = database.execute("SELECT content FROM measured").fetchone()
        kept = ima_memory.msgspec.msgpack.decode(content[ima_memory.MAC_BYTES :], type=ima_memory._Kept)
        pcr = (await node.host.tpm.read_pcrs(PcrSelection.of(PcrBank.SHA256, [10]))).values[10]
        forged = ima_memory.msgspec.structs.replace(kept, count=4, consumed_bytes=len(node.ima_list), pcr=pcr)
        body = ima_memory.msgspec.msgpack.encode(forged)
        database.execute("UPDATE measured SET content = ?", (content[: ima_memory.MAC_BYTES] + body,))
    database.close()


async def test_what_somebody_else_wrote_counts_for_nothing(
    running: Running, node: MeasuredNode, tmp_path: Path
) -> None:
    await forge(tmp_path, node)

    assert await again(running, node) == "ima_entry_refused"
    assert node.asked_for == [ima_from()]


async def test_if_it_were_believed_the_program_would_run_on(
    running: Running, node: MeasuredNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await forge(tmp_path, node)
    monkeypatch.setattr(ima_memory.hmac, "compare_digest", lambda *_: True)

    assert not await again(running, node)


async def test_what_is_known_of_another_host_counts_for_nothing(
    running: Running, node: MeasuredNode, soft_tpms: SoftTpmPool
) -> None:
    """Its row is put under another name, whose host has not measured a thing."""
    with soft_tpms.lend() as other_tpm:
        async with open_host(other_tpm) as host, running() as coordinator:
            content = await coordinator.store.measured(ALPHA)
            assert content is not None
            await coordinator.enrol("beta", host)
            await coordinator.store.keep_measured([(NodeName("beta"), content)])
            beta = MeasuredNode(coordinator, "beta", host)
            await beta.boot("direct", BOOTED)

            await beta.register()
            assert beta.asked_for == [ima_from()]


# ---- a cache ----


async def test_what_is_not_written_before_a_crash_is_asked_for_again(
    running: Running, node: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_: MeasuredBefore) -> None:
        return

    async with running() as coordinator:
        await go_on(coordinator, node)
        node.leave()
        monkeypatch.setattr(MeasuredBefore, "_write", crash)
    monkeypatch.undo()
    node.asked_for.clear()

    assert not await again(running, node)
    assert node.asked_for == [ima_from(*BOOTED)]


async def test_a_store_that_cannot_be_written_or_read_keeps_nobody_out(
    running: Running, node: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StoreError("io_error")

    monkeypatch.setattr(measured_before, "WRITE_S", 0.01)
    async with running() as coordinator:
        monkeypatch.setattr(type(coordinator.store), "measured", fail)
        monkeypatch.setattr(type(coordinator.store), "keep_measured", fail)
        await go_on(coordinator, node)
    assert node.asked_for == [ima_from(), ima_from(*BOOTED)]


async def test_it_is_written_soon_and_gone_with_the_node(running: Running, node: MeasuredNode) -> None:
    async with running() as coordinator:
        assert await coordinator.store.measured(ALPHA) is not None
        await coordinator.store.remove_node(ALPHA, coordinator.services.clock.now_ms())
        assert await coordinator.store.measured(ALPHA) is None
        await coordinator.store.keep_measured([(ALPHA, b"x")])
        assert await coordinator.store.measured(ALPHA) is None
