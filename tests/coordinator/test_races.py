"""What happens between two steps: an operator, the disk or the node itself acts while the coordinator is at work."""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
import trio

from tccp.attestation.quote import QuoteClaim, VerifiedQuote, verify_quotes
from tccp.coordinator.published_log import PublishedLog
from tccp.errors import QuoteError, StoreError
from tccp.model import NodeName
from tccp.protocol import control as c
from tccp.protocol.encoding import encode
from tccp.protocol.framing import frame
from tccp.protocol.messages import Admitted, AnyMessage, RenewalChallenge, Renewed
from tccp.store import ConflictError, EventDraft, Renewal, Store
from tccp.transport.connection import Connection, RefusalError
from tests.coordinator.test_quote_attacks import EVIL
from tests.support.live_coordinator import POLICY, ZERO, HonestNode, LiveCoordinator

LONGER_S = 7_200
REVOKE = c.RevokeNode(name="alpha", reason="sold")


def while_quotes_are_verified(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> trio.Event:
    """Do something between the arrival of the next renewal's quote and its verdict; the event says that it is done."""
    is_done = trio.Event()

    def verify(claims: Sequence[QuoteClaim]) -> list[VerifiedQuote | QuoteError]:
        monkeypatch.setattr("tccp.coordinator.renewals.verify_quotes", verify_quotes)
        trio.from_thread.run(act)
        trio.from_thread.run_sync(is_done.set)
        return verify_quotes(claims)

    monkeypatch.setattr("tccp.coordinator.renewals.verify_quotes", verify)
    return is_done


def while_admitted_is_said(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """Do something between the moment when a lease is in the store and the moment when its node is told."""
    send = Connection.send

    async def send_later(connection: Connection, message: AnyMessage) -> None:
        if isinstance(message, Admitted):
            await act()
        await send(connection, message)

    monkeypatch.setattr(Connection, "send", send_later)


async def is_alive(coordinator: LiveCoordinator) -> bool:
    return (await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)).nodes_enrolled == 1


# ---- the policy changes ----


async def test_a_policy_that_comes_while_a_node_answers_is_applied_with_a_second_question(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    await coordinator.challenge_now("alpha")
    challenge = await alpha.receive(RenewalChallenge)
    await coordinator.add_policy({0: ZERO, 7: ZERO}, version=2)
    await alpha.connection.send(await alpha.answer_renewal(challenge))

    again = await alpha.receive(RenewalChallenge)
    assert again.pcr_indexes == (0, 7)
    await alpha.connection.send(await alpha.answer_renewal(again))
    await alpha.receive(Renewed)

    assert (await coordinator.leases())["alpha"].policy_version == 2


async def test_a_policy_that_comes_while_a_node_answers_puts_it_out_if_it_must(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    await coordinator.challenge_now("alpha")
    challenge = await alpha.receive(RenewalChallenge)
    await coordinator.add_policy({0: EVIL}, version=2)
    await alpha.connection.send(await alpha.answer_renewal(challenge))

    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))
    with pytest.raises(RefusalError, match="pcr_not_in_policy"):
        await alpha.receive(Renewed)
    assert await coordinator.leases() == {}


async def test_a_policy_that_comes_while_a_node_is_admitted_is_not_missed(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_admitted_is_said(monkeypatch, lambda: coordinator.add_policy({0: EVIL}, version=2))
    await alpha.register()

    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))
    with pytest.raises(RefusalError, match="pcr_not_in_policy"):
        await alpha.receive(Renewed)
    assert await coordinator.leases() == {}


async def test_another_policy_given_to_a_node_while_it_is_admitted_is_not_missed(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f'name = "strict"\nversion = 1\n[pcrs]\n0 = "{EVIL.hex()}"\n'.encode()
    await coordinator.ask(c.AddPolicy(body=body), c.PolicyInfo)
    while_admitted_is_said(
        monkeypatch, lambda: coordinator.ask(c.SetNodePolicy(name="alpha", policy="strict"), c.NodeInfo)
    )
    await alpha.register()

    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))
    with pytest.raises(RefusalError, match="pcr_not_in_policy"):
        await alpha.receive(Renewed)
    assert await coordinator.leases() == {}


async def test_the_policy_that_a_node_was_given_last_counts_whoever_is_told_first(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be judged by one and renewed by another, which is never."""
    set_policy = type(coordinator.store).set_node_policy

    async def set_policy_late(store: Store, name: NodeName, policy: str, at_ms: int, body: bytes) -> int:
        seq = await set_policy(store, name, policy, at_ms, body)
        if policy == "strict":
            await nursery.start(give_another)
        return seq

    async def give_another(*, task_status: trio.TaskStatus[None]) -> None:
        await coordinator.challenge_now("alpha")
        task_status.started()

    body = f'name = "strict"\nversion = 1\n[pcrs]\n0 = "{EVIL.hex()}"\n'.encode()
    await coordinator.ask(c.AddPolicy(body=body), c.PolicyInfo)
    await alpha.register()
    async with trio.open_nursery() as nursery:
        monkeypatch.setattr(type(coordinator.store), "set_node_policy", set_policy_late)
        await coordinator.ask(c.SetNodePolicy(name="alpha", policy="strict"), c.NodeInfo)
    session, record = coordinator.services.sessions.get(NodeName("alpha")), await coordinator.store.list_nodes()
    assert session is not None
    assert session.policy == record[0].policy == POLICY


# ---- a node is revoked ----


async def test_a_node_that_is_revoked_while_it_is_admitted_is_told(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_admitted_is_said(monkeypatch, lambda: coordinator.ask(REVOKE, c.NodeInfo))
    await alpha.register()

    with pytest.raises(RefusalError, match="revoked"):
        await alpha.receive(RenewalChallenge)
    assert await coordinator.leases() == {}


async def test_a_node_that_is_revoked_while_its_good_quote_is_verified_is_out(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.register()
    is_done = while_quotes_are_verified(monkeypatch, lambda: coordinator.ask(REVOKE, c.NodeInfo))

    assert await alpha.is_put_out() == "revoked"
    await is_done.wait()


async def test_a_node_that_is_revoked_while_its_bad_quote_is_verified_harms_nobody(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alpha.register()
    is_done = while_quotes_are_verified(monkeypatch, lambda: coordinator.ask(REVOKE, c.NodeInfo))
    alpha.lease_id = bytes(16)  # its quote covers another lease

    assert await alpha.is_put_out() == "revoked"
    await is_done.wait()
    assert await is_alive(coordinator)


async def test_a_node_that_is_revoked_while_it_answers_is_told_at_once(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    await coordinator.challenge_now("alpha")
    await alpha.receive(RenewalChallenge)
    await coordinator.ask(REVOKE, c.NodeInfo)

    with pytest.raises(RefusalError, match="revoked"):
        await alpha.receive(Renewed)
    assert await coordinator.leases() == {}


async def test_a_node_that_is_revoked_while_it_registers_gets_no_lease(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    challenge = await alpha.get_challenge()
    await coordinator.ask(REVOKE, c.NodeInfo)
    await alpha.connection.send(await alpha.answer(challenge))

    with pytest.raises(RefusalError, match="node_revoked"):
        await alpha.receive(Admitted)
    assert await coordinator.leases() == {}


# ---- the operator configures another length of leases ----


async def configure_leases(coordinator: LiveCoordinator, lease_s: int) -> None:
    """Write another length of leases, and return when a reload has taken it over."""
    before = coordinator.services.config.leases.seconds
    text = coordinator.config.read_text()
    coordinator.config.write_text(text.replace(f"seconds = {before}", f"seconds = {lease_s}"))
    os.kill(os.getpid(), signal.SIGHUP)
    with trio.fail_after(30):
        while coordinator.services.config.leases.seconds != lease_s:
            await trio.lowlevel.checkpoint()


async def test_a_node_that_is_admitted_during_a_reload_is_told_the_lease_that_is_in_the_record(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that believes in a longer one runs its VMs on when they are somebody else's."""
    receipt = PublishedLog.receipt

    async def receipt_later(published: PublishedLog, seq: int) -> bytes:
        await configure_leases(coordinator, LONGER_S)
        return await receipt(published, seq)

    monkeypatch.setattr(PublishedLog, "receipt", receipt_later)
    admitted = await alpha.register()

    lease = (await coordinator.leases())["alpha"]
    assert admitted.lease_s == (lease.expires_ms - lease.issued_ms) // 1000 < LONGER_S


async def test_a_node_that_is_renewed_during_a_reload_is_told_the_lease_that_is_in_the_record(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted = await alpha.register()
    store = type(coordinator.store)
    renew_all = store.renew_all

    async def renew_and_reload(one: Store, renewals: Sequence[Renewal]) -> list[ConflictError | None]:
        verdicts = await renew_all(one, renewals)
        monkeypatch.setattr(store, "renew_all", renew_all)
        await configure_leases(coordinator, LONGER_S)
        return verdicts

    monkeypatch.setattr(store, "renew_all", renew_and_reload)
    await coordinator.challenge_now("alpha")
    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))

    assert (await alpha.receive(Renewed)).lease_s == admitted.lease_s < LONGER_S
    lease = (await coordinator.leases())["alpha"]
    assert lease.expires_ms - lease.renewed_ms <= 1000 * admitted.lease_s


# ---- the node itself ----


async def test_garbage_behind_a_bad_quote_harms_nobody(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_garbage_and_be_cut_off() -> None:
        await alpha.say(frame(b"garbage"))
        while coordinator.services.sessions.get(NodeName("alpha")) is not None:
            await trio.lowlevel.checkpoint()

    await alpha.register()
    while_quotes_are_verified(monkeypatch, say_garbage_and_be_cut_off)
    await coordinator.challenge_now("alpha")
    challenge = await alpha.receive(RenewalChallenge)
    bad = msgspec.structs.replace(await alpha.answer_renewal(challenge), pcrs=(EVIL, EVIL))
    await alpha.say(frame(encode(bad)))

    await coordinator.until("end")
    assert await coordinator.last_end("alpha") == "pcr_digest_mismatch"
    assert await is_alive(coordinator)


async def test_the_newest_connection_of_a_node_counts_and_the_older_one_is_closed(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    again = HonestNode(coordinator, "alpha", alpha.host)
    assert await again.is_admitted()

    with pytest.raises(Exception, match="peer_gone"):
        await alpha.receive(RenewalChallenge)
    assert await coordinator.last_end("alpha") == "replaced"
    await again.renew()


# ---- the disk ----


async def test_a_renewal_that_the_disk_did_not_take_is_asked_for_again(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = type(coordinator.store)

    async def fail(_: object, renewals: Sequence[Renewal]) -> list[ConflictError | None]:
        monkeypatch.undo()
        raise StoreError("disk_full", "no space")

    await alpha.register()
    before = (await coordinator.leases())["alpha"].expires_ms
    monkeypatch.setattr(store, "renew_all", fail)
    await coordinator.challenge_now("alpha")
    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))

    await alpha.connection.send(await alpha.answer_renewal(await alpha.receive(RenewalChallenge)))
    await alpha.receive(Renewed)
    assert (await coordinator.leases())["alpha"].expires_ms > before


async def test_a_refusal_that_the_disk_did_not_take_is_entered_the_next_time(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object, _event: EventDraft) -> int:
        monkeypatch.undo()
        raise StoreError("disk_full", "no space")

    await coordinator.add_policy({0: EVIL}, version=2)
    monkeypatch.setattr(type(coordinator.store), "append_event", fail)
    for entered in (0, 1, 1):
        assert await HonestNode(coordinator, "alpha", alpha.host).is_refused() == "pcr_not_in_policy"
        assert [event.kind for event in await coordinator.log()].count("refuse") == entered
