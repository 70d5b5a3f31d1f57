"""Hosts that are judged by what they run: IMA's list, taken in parts, from where it was accepted last."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio

from tccp.attestation import ima
from tccp.attestation.ima import ImaPolicy, ImaProgress, Measurements
from tccp.errors import TccpError
from tccp.model import NodeName, PcrBank, PcrSelection
from tccp.protocol.messages import HostLogRequest, RenewalChallenge, Renewed
from tccp.tpm import Quote
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


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    (tmp_path / "ima").mkdir()
    async with live_coordinator(tmp_path, coordinator_tpm, extra=f'[ima]\npolicies = "{tmp_path}/ima"') as running:
        yield running


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, soft_tpms: SoftTpmPool, tmp_path: Path) -> AsyncIterator[MeasuredNode]:
    """Booted as the policy wants, with IMA on."""
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await put_in_force(coordinator, boot_policy(ima=ima_policy(tmp_path / "ima")))
            await coordinator.enrol("alpha", host)
            node = MeasuredNode(coordinator, "alpha", host)
            await node.boot("direct", BOOTED)
            yield node


def ima_from(entries: Sequence[Entry]) -> HostLogRequest:
    """The request for what comes behind *entries*."""
    return HostLogRequest("ima", len(written(entries)))


async def test_only_what_is_new_in_a_list_is_asked_for(alpha: MeasuredNode) -> None:
    assert await alpha.is_admitted()
    await alpha.renew()
    assert alpha.asked_for == [ima_from([])]

    await alpha.run(DAEMON)
    await alpha.renew()
    await alpha.renew()
    assert alpha.asked_for == [ima_from([]), ima_from(BOOTED)]


async def test_a_list_that_is_longer_than_a_message_comes_in_parts(alpha: MeasuredNode) -> None:
    whole = alpha.ima_list
    alpha.log_part = lambda asked: whole[asked.offset : asked.offset + 110]  # type: ignore[method-assign]

    assert await alpha.is_admitted()
    assert alpha.asked_for == [ima_from(BOOTED[:count]) for count in range(len(alpha.asked_for))]
    assert len(alpha.asked_for) > 1


# ---- attacks, and each without its defence ----


async def test_a_program_that_is_not_listed_puts_the_host_out_and_the_log_says_which(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    await alpha.register()
    await alpha.run(EVIL)

    assert await alpha.is_put_out() == "ima_entry_refused"
    refusal = coordinator.services.sessions.refusals[NodeName("alpha")]
    assert re.match(r"entry 3: /usr/bin/sh sha256:[0-9a-f]{64}: not_listed", refusal.detail)
    assert await alpha.is_refused() == "ima_entry_refused"


async def test_if_no_verdict_refused_the_program_would_run_on(
    alpha: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measurements, "judge", lambda self, *_: (bytes(len(self)), 0))
    await alpha.register()
    await alpha.run(EVIL)

    await alpha.renew()


def hide_the_end(alpha: MeasuredNode) -> None:
    """Show the list as it was before."""
    alpha.ima_list = written(BOOTED)


async def test_an_entry_that_is_left_out_is_missed(alpha: MeasuredNode) -> None:
    await alpha.register()
    await alpha.run(EVIL)
    hide_the_end(alpha)

    assert await alpha.is_put_out() == "ima_list_mismatch"


async def test_if_any_prefix_counted_an_entry_could_be_left_out(
    alpha: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = ima.ima_replay

    def believe(measurements: bytes, *, target: bytes | None, **rest: object) -> object:
        replayed = replay(measurements, target=None, **rest)  # type: ignore[arg-type]
        replayed.matched, replayed.pcr = True, target or replayed.pcr
        return replayed

    monkeypatch.setattr(ima, "ima_replay", believe)
    await alpha.register()
    await alpha.run(EVIL)
    hide_the_end(alpha)

    await alpha.renew()


async def test_the_list_of_another_boot_does_not_help(alpha: MeasuredNode) -> None:
    await alpha.run(EVIL)
    alpha.ima_list = written([AGGREGATE, SHELL, INIT, DAEMON])

    assert await alpha.is_refused() == "ima_list_mismatch"


async def test_a_host_that_measures_nothing_is_refused(
    coordinator: LiveCoordinator, soft_tpms: SoftTpmPool, alpha: MeasuredNode
) -> None:
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await coordinator.enrol("beta", host)
            beta = MeasuredNode(coordinator, "beta", host)
            await beta.boot("direct")

            assert await beta.is_refused() == "ima_nothing_measured"


async def test_if_progress_were_taken_on_trust_the_tail_alone_would_do(
    alpha: MeasuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.run(EVIL)
    bank = PcrBank.SHA256
    claimed = ImaProgress(
        bank, 4, len(alpha.ima_list), (await alpha.host.tpm.read_pcrs(PcrSelection.of(bank, [10]))).values[10]
    )
    monkeypatch.setattr(ImaProgress, "start", lambda *_: claimed)
    await alpha.run(DAEMON)

    assert await alpha.is_admitted()


# ---- no false alarms ----


class RunsSomethingMeanwhile(MeasuredNode):
    """A program starts between the quote and the reading of the list."""

    meanwhile: tuple[Entry, ...] = ()

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        quoted = await super().quote(bound_to, selection)
        await self.run(*self.meanwhile)
        self.meanwhile = ()
        return quoted


async def test_what_starts_after_the_quote_waits_for_the_next_one(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    node = RunsSomethingMeanwhile(coordinator, "alpha", alpha.host)
    node.firmware_log, node.entries, node.ima_list = alpha.firmware_log, alpha.entries, alpha.ima_list
    node.meanwhile = (DAEMON,)
    await node.register()
    await node.run(INIT)
    node.meanwhile = (SHELL,)
    await node.renew()
    await node.renew()

    assert node.asked_for == [ima_from([]), ima_from(BOOTED), ima_from([*BOOTED, DAEMON, INIT])]


async def test_what_started_after_the_quote_is_judged_at_the_next_one(
    coordinator: LiveCoordinator, alpha: MeasuredNode
) -> None:
    node = RunsSomethingMeanwhile(coordinator, "alpha", alpha.host)
    node.firmware_log, node.entries, node.ima_list = alpha.firmware_log, alpha.entries, alpha.ima_list
    node.meanwhile = (EVIL,)
    await node.register()

    assert await node.is_put_out() == "ima_entry_refused"


async def test_a_host_that_reboots_starts_anew(
    coordinator: LiveCoordinator, soft_tpms: SoftTpmPool, tmp_path: Path
) -> None:
    await put_in_force(coordinator, boot_policy(ima=ima_policy(tmp_path / "ima")))
    with soft_tpms.lend() as soft_tpm:
        async with open_host(soft_tpm) as host:
            await coordinator.enrol("alpha", host)
            node = MeasuredNode(coordinator, "alpha", host)
            await node.boot("direct", [*BOOTED, DAEMON])
            assert await node.is_admitted()
        soft_tpm.reset()
        async with open_host(soft_tpm) as host:
            node = MeasuredNode(coordinator, "alpha", host)
            await node.boot("direct", BOOTED)

            assert await node.is_admitted()


# ---- the policies ----


async def answer(node: MeasuredNode) -> Renewed:
    await node.connection.send(await node.answer_renewal(await node.receive(RenewalChallenge)))
    return await node.receive(Renewed)


async def test_another_compiled_policy_judges_the_whole_list_anew(
    coordinator: LiveCoordinator, alpha: MeasuredNode, tmp_path: Path
) -> None:
    await alpha.register()
    other = ima_policy(tmp_path / "ima", ng(b"more", b"/usr/bin/more"))
    await put_in_force(coordinator, boot_policy(version=2, ima=other))
    await answer(alpha)

    assert alpha.asked_for == [ima_from([]), ima_from([]), HostLogRequest("firmware", 0)]


async def test_a_compiled_policy_that_is_not_there_cannot_be_asked_for(coordinator: LiveCoordinator) -> None:
    with pytest.raises(TccpError, match="no_ima_policy"):
        await put_in_force(coordinator, boot_policy(ima=b"\x01" * 32))


async def test_one_compiled_policy_is_mapped_once_for_all_nodes(
    coordinator: LiveCoordinator, alpha: MeasuredNode, tmp_path: Path
) -> None:
    digest = ima_policy(tmp_path / "ima")

    assert isinstance(coordinator.services.examiner.ima.get(digest), ImaPolicy)
    assert coordinator.services.examiner.ima.get(digest) is coordinator.services.examiner.ima.get(digest)


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "control"])
async def test_who_registers_slowly_holds_up_no_host_that_is_admitted(
    coordinator: LiveCoordinator, alpha: MeasuredNode, apart: bool
) -> None:
    """Any number of connections may stall in the name of one host; here one takes the only place."""
    registering, admitted = trio.CapacityLimiter(1), trio.CapacityLimiter(1)
    if not apart:
        registering = admitted
    coordinator.services.examiner._registering.places = registering
    coordinator.services.examiner._admitted.places = admitted
    await alpha.register()
    await alpha.run(DAEMON)
    slow = MeasuredNode(coordinator, "alpha", alpha.host)
    slow.firmware_log = alpha.firmware_log
    challenge = await slow.get_challenge()
    await slow.connection.send(await slow.answer(challenge))
    assert isinstance(await slow.connection.receive_any(), HostLogRequest)

    await coordinator.challenge_now("alpha")
    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))
    if not apart:
        while not admitted.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()
        slow.leave()
    await alpha.receive(Renewed)
    assert bool(registering.borrowed_tokens) == apart  # it is still at it
    slow.leave()
