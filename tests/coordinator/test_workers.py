"""A coordinator with two workers behind one socket: what each may break, and what it may not."""

import contextlib
import datetime as dt
import functools
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bench.load.nodes import FAULTS, LoadNode
from tccp.config import LogConfig
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.workers import child, pool
from tccp.coordinator.workers.link import WINDOW_BYTES, Frame, Kind, Link, Opened, Start
from tccp.errors import HostError, ProtocolError
from tccp.node.identity import make_node_identity
from tccp.node.registration import door_context
from tccp.protocol import control as c
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import frame
from tccp.protocol.messages import PROTOCOL_VERSION, Hello, RenewalChallenge, Renewed
from tccp.store import EventRecord
from tccp.transport.certificates import KeyPair, fresh_key, key_pem, load_key
from tccp.transport.connection import RefusalError, handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import SERVER_NAME, node_context
from tccp.transport.tls_stream import READ_BYTES
from tests.support.crowd import hear, join, renew
from tests.support.live_coordinator import DEADLINE_S, ZERO, LiveCoordinator, live_coordinator
from tests.support.perimeter import wait_until
from tests.support.processes import children_of
from tests.support.soft_tpm import SoftTpm

WORKERS = 2
FLOOD_BYTES = 1 << 20


@dataclass
class Spread:
    """Two nodes at either worker."""

    coordinator: LiveCoordinator
    at: dict[int, list[LoadNode]]  # worker's process -> its nodes

    @property
    def nodes(self) -> list[LoadNode]:
        return [node for nodes in self.at.values() for node in nodes]


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    async with live_coordinator(tmp_path, coordinator_tpm, extra=f"workers = {WORKERS}") as running:
        await running.add_policy({0: ZERO, 4: ZERO})
        yield running


@pytest.fixture
async def spread(coordinator: LiveCoordinator) -> Spread:
    one, other = workers()
    with stopped(other):
        at_one = await join(coordinator, "alpha", "beta")
    with stopped(one):
        at_other = await join(coordinator, "gamma", "delta")
    return Spread(coordinator, {one: at_one, other: at_other})


def workers() -> list[int]:
    """The processes of the workers of a coordinator in this very process."""
    return sorted(children_of(os.getpid(), child.__name__))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def until_there_is_another(gone: int, coordinator: LiveCoordinator) -> None:
    """Until a worker has taken the place of *gone*, and takes connections in."""
    there_is = functools.partial(wait_until, lambda: gone not in workers() and len(workers()) == WORKERS)
    await trio.to_thread.run_sync(there_is, f"another worker instead of {gone}")
    assert coordinator.services.sessions.counters.worker_ends == 1


async def until_told(coordinator: LiveCoordinator, count: int) -> AsyncIterator[EventRecord]:
    """The first *count* events of nodes that were told of their revocation."""
    async for event in coordinator.store.watch(0):
        if event.kind == "told":
            yield event
            count -= 1
            if count == 0:
                return


async def test_nodes_of_both_workers_are_admitted_and_renewed(spread: Spread) -> None:
    for node in spread.nodes:
        await renew(spread.coordinator, node)
    assert len(spread.coordinator.services.sessions) == len(spread.nodes)


async def test_a_worker_that_is_killed_takes_its_own_connections_along_and_no_lease(spread: Spread) -> None:
    coordinator, (victim, survivor) = spread.coordinator, spread.at
    leases = await coordinator.leases()
    os.kill(victim, signal.SIGKILL)

    for node in spread.at[victim]:
        with pytest.raises((PeerGoneError, ssl.SSLError)):
            await hear(node, RenewalChallenge)
    for node in spread.at[survivor]:
        await renew(coordinator, node)
    assert {name: lease.lease_id for name, lease in (await coordinator.leases()).items()} == {
        name: lease.lease_id for name, lease in leases.items()
    }
    await until_there_is_another(victim, coordinator)
    (new,) = set(workers()) - {survivor}
    with stopped(survivor):  # so that the new one has to take them in
        for node in spread.at[victim]:
            await node.register(coordinator.port, coordinator.trust)
            coordinator.connections.append(node.connection)
            await renew(coordinator, node)
    assert new in workers()


async def test_nodes_hear_of_their_revocation_wherever_they_are_connected(spread: Spread) -> None:
    coordinator = spread.coordinator
    revoked = [nodes[0] for nodes in spread.at.values()]
    for node in revoked:
        await coordinator.ask(c.RevokeNode(name=node.identity.name, reason="stolen"), c.NodeInfo)
        with pytest.raises(RefusalError, match="revoked"):
            await hear(node, RenewalChallenge)
        node.connection.close()
    with trio.fail_after(DEADLINE_S):
        told = [event async for event in until_told(coordinator, len(revoked))]
    assert [event.node and str(event.node) for event in told] == [node.identity.name for node in revoked]
    assert "away" not in coordinator.services.sessions.counters.told.by_name
    for node in spread.nodes:
        if node not in revoked:
            await renew(coordinator, node)


async def test_bad_evidence_ends_the_leases_of_its_nodes_and_of_nobody_else(spread: Spread) -> None:
    coordinator, (*bad, good) = spread.coordinator, spread.nodes
    for node, node.fault in zip(bad, FAULTS, strict=True):
        await coordinator.challenge_now(node.identity.name)
        node.answer(await hear(node, RenewalChallenge))
        with pytest.raises(RefusalError):
            await hear(node, RenewalChallenge)
        assert node.identity.name not in await coordinator.leases()
        await renew(coordinator, good)


async def test_a_worker_that_hangs_is_ended_and_another_takes_its_place(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(pool, "SILENCE_S", 2.0)
    async with live_coordinator(tmp_path, coordinator_tpm, extra=f"workers = {WORKERS}") as coordinator:
        victim = workers()[0]
        os.kill(victim, signal.SIGSTOP)
        await until_there_is_another(victim, coordinator)


async def test_a_session_that_waits_for_something_else_keeps_no_other_worker_from_starting(
    coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_for_ever(*_: object, **__: object) -> None:
        waits.set()
        await trio.sleep_forever()

    waits = trio.Event()
    monkeypatch.setattr(pool, "LEAVE_S", 0.0)
    monkeypatch.setattr("tccp.coordinator.registration.identify", wait_for_ever)
    one, other = workers()
    with stopped(other):
        stream = await trio.open_tcp_stream("127.0.0.1", coordinator.port)
        identity = make_node_identity("alpha")
        context = door_context(identity, coordinator.trust)
        tls = await handshake(stream, context, server_side=False, server_name=SERVER_NAME)
        await tls.send_all(frame(encode(Hello(PROTOCOL_VERSION, bytes(32), b"", (), bytes(16), bytes(16)))))
        await waits.wait()

    os.kill(one, signal.SIGKILL)

    await until_there_is_another(one, coordinator)
    tls.close()


async def test_a_bug_that_a_node_brings_out_at_a_worker_costs_it_its_connection_alone(
    spread: Spread, bugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        monkeypatch.undo()
        raise KeyError("a bug")

    bad, *others = spread.nodes
    await spread.coordinator.challenge_now(bad.identity.name)
    challenge = await hear(bad, RenewalChallenge)
    monkeypatch.setattr(Renewals, "answer", bug)
    bad.answer(challenge)

    with pytest.raises(PeerGoneError):
        await hear(bad, Renewed)
    assert "a bug" in bugs.pop()
    for node in others:
        await renew(spread.coordinator, node)
    assert spread.coordinator.services.sessions.counters.worker_ends == 0


async def test_workers_log_as_a_reload_says(
    capfd: pytest.CaptureFixture[str], coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm, extra=f"workers = {WORKERS}") as coordinator:
        await be_nobody(coordinator)
        coordinator.config.write_text(coordinator.config.read_text().replace('level = "error"', 'level = "info"'))
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(DEADLINE_S):
            while "protocol_error" not in capfd.readouterr().err:
                await be_nobody(coordinator)
    structlog.reset_defaults()  # the reload was this very process's, too


async def be_nobody(coordinator: LiveCoordinator) -> None:
    """Speak no TLS, and be cut off: a worker tells of it, but only where it is to tell of such things."""
    async with await trio.open_tcp_stream("127.0.0.1", coordinator.port) as stream:
        await stream.send_all(b"not TLS\n" * 100)
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass


async def test_workers_end_with_their_coordinator_and_signals_are_not_for_them(
    coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm, extra=f"workers = {WORKERS}") as coordinator:
        await coordinator.add_policy({0: ZERO, 4: ZERO})
        for pid in workers():
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        (node,) = await join(coordinator, "alpha")
        await renew(coordinator, node)
        assert len(workers()) == WORKERS
    assert workers() == []


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Somebody whom the coordinator tells how it is, as it tells systemd."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield address


async def test_nothing_secret_is_among_arguments_or_in_the_environment_of_a_worker(
    manager: str, coordinator: LiveCoordinator
) -> None:
    assert os.environ["NOTIFY_SOCKET"] == manager
    found = workers()
    for pid in found:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")[1:]
        assert words[:3] == [b"-m", b"tccp.coordinator.workers.child", b"--link"]
        assert (words[3].isdigit(), words[4], words[5].isdigit(), len(words)) == (True, b"--listeners", True, 6)
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"NOTIFY_SOCKET=" not in environment
        assert b"PRIVATE KEY" not in environment
        assert coordinator.services.identity.tls.key not in environment
    assert len(found) == WORKERS


async def test_a_coordinator_whose_workers_cannot_start_gives_up(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RESTART_S", 0.0)
    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    with pytest.raises(BaseExceptionGroup) as raised:
        async with live_coordinator(tmp_path, coordinator_tpm, extra=f"workers = {WORKERS}"):
            pass
    assert raised.group_contains(HostError, match="workers_fail", depth=None)


@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "control"])
async def test_whoever_shows_a_very_long_certificate_is_not_taken_in(
    bounded: bool, coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every host has the door's key: its administrator makes certificates that no coordinator reads from a worker."""
    if not bounded:
        monkeypatch.setattr(child, "CERTIFICATE_BYTES_MAX", 1 << 20)
    async with worker_alone(coordinator) as (link, frames, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        tls = await handshake(stream, long_certificate(coordinator), server_side=False, server_name=SERVER_NAME)
        if bounded:
            assert await tls.receive() == b""
            link.say(Kind.PING)
            assert (await anext(frames))[0] is Kind.PONG  # and of the connection nothing was said
        else:
            kind, _, content = await anext(frames)
            assert kind is Kind.OPENED
            with pytest.raises(ProtocolError):
                decode(content, Opened)
        tls.close()


def long_certificate(coordinator: LiveCoordinator) -> ssl.SSLContext:
    """A node's context with a certificate that the door's key signed, and OpenSSL takes."""
    key, door = fresh_key(), x509.load_pem_x509_certificate(coordinator.trust.door.certificate)
    now = dt.datetime.now(tz=dt.UTC)
    issued = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(door.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("x")]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(door.public_key()), critical=False)  # type: ignore[arg-type]
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(70_000)), False)
        .sign(load_key(coordinator.trust.door.key), hashes.SHA256())
    )
    pair = KeyPair(certificate=issued.public_bytes(serialization.Encoding.PEM), key=key_pem(key))
    return node_context(pair, coordinator.trust.ca_certificate)


@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "control"])
async def test_a_node_that_says_more_than_is_taken_waits_at_the_worker(
    bounded: bool, coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not bounded:
        monkeypatch.setattr(child, "WINDOW_BYTES", 1 << 30)
    async with worker_alone(coordinator) as (link, frames, port):
        identity = make_node_identity("alpha")
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        tls = await handshake(
            stream, door_context(identity, coordinator.trust), server_side=False, server_name=SERVER_NAME
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tls.send_all, bytes(4 * FLOOD_BYTES))
            said, number = 0, 0
            while said < (WINDOW_BYTES if bounded else FLOOD_BYTES):
                kind, number, content = await anext(frames)
                said += len(content) * (kind is Kind.DATA)
            for _ in range(10):  # long enough for a worker that does not wait
                link.say(Kind.PING)
                while (frame := await anext(frames))[0] is not Kind.PONG:
                    said += len(frame[2])
            assert (said <= WINDOW_BYTES + READ_BYTES) == bounded
            link.say(Kind.TAKEN, number, said.to_bytes(4, "big"))
            assert (await anext(frames))[0] is Kind.DATA
            nursery.cancel_scope.cancel()
        tls.close()


@asynccontextmanager
async def worker_alone(coordinator: LiveCoordinator) -> AsyncIterator[tuple[Link, AsyncIterator[Frame], int]]:
    """A worker's loop in this process, and the coordinator's end of its link in the hands of the test."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    identity = coordinator.services.identity
    authorities = (identity.keys.ca.certificate_pem, identity.keys.door.certificate)
    start = Start(LogConfig(level="error"), identity.tls.certificate, identity.tls.key, authorities, 10)
    ours, theirs = socket.socketpair()
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(child.serve, theirs.detach(), [os.dup(listener.socket.fileno())])
        link = Link(ours, on_full=nursery.cancel_scope.cancel)
        nursery.start_soon(link.write)
        link.say(Kind.START, content=msgspec.msgpack.encode(start))
        frames = link.frames()
        with trio.fail_after(DEADLINE_S):
            assert (await anext(frames))[0] is Kind.READY
            yield link, frames, listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()
    async for _ in frames:  # to its end
        pass
    link.close()
