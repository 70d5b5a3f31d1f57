"""Whoever can reach the port: what strangers do harms neither the coordinator nor the nodes."""

import contextlib
import datetime as dt
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgpack
import msgspec
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tccp.errors import ProtocolError
from tccp.protocol.encoding import encode
from tccp.protocol.framing import FRAME_BYTES_MAX, frame
from tccp.protocol.messages import Admitted, Challenge, Evidence, Hello
from tccp.transport.certificates import Authority, KeyPair, fresh_key
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import SERVER_NAME, node_context
from tccp.transport.tls_stream import TlsStream
from tests.support.live_coordinator import DEADLINE_S, HOST, HonestNode, LiveCoordinator
from tests.support.strange_certificates import (
    PrivateKey,
    as_pair,
    certificate_behind_the_door,
    with_a_version_that_does_not_exist,
    with_its_subject_out_of_order,
)

SLEPT_MS = 31_000
DER = serialization.Encoding.DER


@asynccontextmanager
async def stranger(coordinator: LiveCoordinator, pair: KeyPair) -> AsyncIterator[TlsStream]:
    """A TLS connection of somebody who has the trust file, and shows this certificate."""
    context = node_context(pair, coordinator.trust.ca_certificate)
    stream = await trio.open_tcp_stream(HOST, coordinator.port)
    tls = await handshake(stream, context, server_side=False, server_name=SERVER_NAME)
    try:
        yield tls
    finally:
        tls.close()


async def is_cut_off(tls: TlsStream) -> bool:
    """Whether the coordinator closes the connection; what it says before is not looked at."""
    with trio.fail_after(DEADLINE_S):
        try:
            while await tls.receive():
                pass
        except (PeerGoneError, ProtocolError):
            pass
    return True


def door_pair(coordinator: LiveCoordinator) -> KeyPair:
    key = fresh_key()
    return as_pair(certificate_behind_the_door(coordinator.trust.door, key).public_bytes(DER), key)


# ---- certificates ----


@pytest.mark.parametrize("made_strange", [with_its_subject_out_of_order, with_a_version_that_does_not_exist])
async def test_a_certificate_that_only_openssl_can_read_harms_nobody(
    made_strange: Callable[[x509.Certificate, KeyPair], bytes], coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    key, door = fresh_key(), coordinator.trust.door
    strange = made_strange(certificate_behind_the_door(door, key), door)
    async with stranger(coordinator, as_pair(strange, key)) as tls:
        assert await is_cut_off(tls)

    assert await alpha.is_admitted()


@pytest.mark.parametrize(
    "make_key",
    [
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP521R1()),
    ],
)
async def test_a_tls_key_of_another_kind_is_no_harm(
    make_key: Callable[[], PrivateKey], coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    key = make_key()
    certificate = certificate_behind_the_door(coordinator.trust.door, key).public_bytes(DER)
    async with stranger(coordinator, as_pair(certificate, key)) as tls:
        tls.send_nowait(frame(encode(await alpha.hello())))
        assert await tls.receive()

    assert await alpha.is_admitted()


async def test_who_does_not_have_the_trust_file_says_nothing(coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    other_door = Authority.create("tccp door", now=dt.datetime.now(tz=dt.UTC))
    key = fresh_key()
    certificate = certificate_behind_the_door(other_door, key).public_bytes(DER)
    async with stranger(coordinator, as_pair(certificate, key)) as tls:
        with contextlib.suppress(PeerGoneError):
            tls.send_nowait(frame(encode(await alpha.hello())))
        assert await is_cut_off(tls)

    assert await alpha.is_admitted()


@pytest.mark.parametrize(
    ("client", "not_after"), [(False, None), (True, dt.datetime.now(tz=dt.UTC) - dt.timedelta(days=1))]
)
async def test_a_certificate_for_another_purpose_or_time_opens_nothing(
    client: bool, not_after: dt.datetime | None, coordinator: LiveCoordinator
) -> None:
    key = fresh_key()
    certificate = certificate_behind_the_door(coordinator.trust.door, key, client=client, not_after=not_after)
    async with stranger(coordinator, as_pair(certificate.public_bytes(DER), key)) as tls:
        with pytest.raises(ProtocolError, match="tls_record"):
            await tls.receive()


async def test_the_lease_of_a_node_is_no_coordinators_certificate(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    admitted = await alpha.register()
    lease = x509.load_der_x509_certificate(admitted.certificate)
    names = lease.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["alpha.node.tccp.internal"]
    assert SERVER_NAME not in names.get_values_for_type(x509.DNSName)


# ---- bytes ----

GARBAGE = {
    "nothing": b"",
    "zeros": bytes(100_000),
    "http": b"GET / HTTP/1.1\r\nHost: coordinator\r\n\r\n",
    "half a TLS record": bytes.fromhex("160301ffff01"),
    "a TLS alert": bytes.fromhex("15030300020228"),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_before_tls_harms_nobody(garbage: bytes, coordinator: LiveCoordinator, alpha: HonestNode) -> None:
    stream = await trio.open_tcp_stream(HOST, coordinator.port)
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(garbage)
            await stream.send_eof()
            await stream.receive_some()

    assert await alpha.is_admitted()


FRAMES = {
    "no msgpack": frame(b"\xc1"),
    "an empty frame": bytes(4),
    "an oversized frame": (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
    "a huge array": frame(bytes.fromhex("ddffffffff")),
    "huge arrays in huge arrays": frame(bytes.fromhex("dd00001000") * 1000),
    "an unknown message": frame(msgpack.packb(["launch_missiles"])),
    "a map": frame(msgpack.packb({"hello": 1})),
    "a message out of turn": frame(encode(Evidence(bytes(32), b"i", bytes(16), bytes(16), (bytes(32),), b""))),
    "a hello with too many fields": frame(msgpack.packb(["hello", 1, bytes(32), b"", [], bytes(16), bytes(16), 0])),
    "a hello of the wrong types": frame(msgpack.packb(["hello", "1", bytes(32), b"", [], bytes(16), bytes(16)])),
    "many small frames": frame(b"\x00") * 10_000,
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
async def test_garbage_within_tls_ends_the_connection_and_harms_nobody(
    frames: bytes, coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    async with stranger(coordinator, door_pair(coordinator)) as tls:
        tls.send_nowait(frames)
        assert await is_cut_off(tls)

    assert await alpha.is_admitted()


NO_KEY = {"malformed", "unsupported", "not_enrolled"}
KEYS = {
    "zeros": (bytes(16), bytes(16)),
    "ones": (b"\xff" * 1024, b"\xff" * 1024),
    "SPKI": (b"\x30" + bytes(100), b"\x30" + bytes(100)),
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
async def test_keys_that_are_none_are_refused(
    keys: tuple[bytes, bytes], coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    class HasOddKeys(HonestNode):
        async def hello(self) -> Hello:
            return msgspec.structs.replace(await super().hello(), ek_public=keys[0], ak_public=keys[1])

    class HasAnOddAk(HonestNode):
        async def hello(self) -> Hello:
            return msgspec.structs.replace(await super().hello(), ak_public=keys[1])

    assert await HasOddKeys(coordinator, "alpha", alpha.host).is_refused() in NO_KEY
    assert await HasAnOddAk(coordinator, "alpha", alpha.host).is_refused() in NO_KEY
    assert await alpha.is_admitted()


@pytest.mark.parametrize("field", ["attest", "signature", "pcrs", "event_log", "credential", "identity"])
async def test_evidence_at_the_limits_of_its_fields_is_refused(
    field: str, coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    largest: dict[str, object] = {
        "attest": b"\xff" * 2304,
        "signature": b"\xff" * 1100,
        "pcrs": (b"\xff" * 64,) * 24,
        "event_log": b"\xff" * (768 * 1024),
        "credential": b"\xff" * 32,
        "identity": b"\xff" * 8192,
    }

    class SendsTheLargest(HonestNode):
        async def answer(self, challenge: Challenge) -> Evidence:
            return msgspec.structs.replace(await super().answer(challenge), **{field: largest[field]})

    assert await SendsTheLargest(coordinator, "alpha", alpha.host).is_refused()
    assert await alpha.is_admitted()


# ---- peers that are slow, or many ----


async def test_peers_that_never_finish_their_handshake_do_not_stop_others(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    async with contextlib.AsyncExitStack() as half_open:
        for _ in range(50):
            await half_open.enter_async_context(await trio.open_tcp_stream(HOST, coordinator.port))

        assert await alpha.is_admitted()


@pytest.mark.parametrize("told", ["nothing", "half a hello", "a byte now and then"])
async def test_a_peer_that_is_too_slow_is_cut_off_and_stops_nobody(
    told: str, coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.coordinator.registration.HELLO_S", 1.0)
    hello = frame(encode(await alpha.hello()))
    async with stranger(coordinator, door_pair(coordinator)) as tls, trio.open_nursery() as nursery:
        if told == "half a hello":
            tls.send_nowait(hello[:100])
        if told == "a byte now and then":
            nursery.start_soon(drip, tls, hello)
        assert await alpha.is_admitted()
        assert await is_cut_off(tls)
        nursery.cancel_scope.cancel()


async def drip(tls: TlsStream, data: bytes) -> None:
    with contextlib.suppress(PeerGoneError):
        for byte in data:
            tls.send_nowait(bytes([byte]))
            await trio.sleep(0.05)


async def test_a_node_that_answers_too_late_gets_no_lease(
    coordinator: LiveCoordinator, alpha: HonestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.coordinator.registration.ANSWER_S", 0.2)
    challenge = await alpha.get_challenge()
    evidence = await alpha.answer(challenge)

    with pytest.raises(PeerGoneError):
        await alpha.receive(Admitted)  # the coordinator has lost its patience
    with contextlib.suppress(PeerGoneError):
        await alpha.connection.send(evidence)
    assert await coordinator.leases() == {}


async def test_a_node_that_answers_while_the_coordinators_host_has_slept_gets_no_lease(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    """No timer goes off in a host that sleeps, or is held up; the quote is old all the same."""
    challenge = await alpha.get_challenge()
    coordinator.services.clock._offset_ms += SLEPT_MS

    await alpha.connection.send(await alpha.answer(challenge))
    with pytest.raises(PeerGoneError):
        await alpha.receive(Admitted)
    assert await coordinator.leases() == {}


async def test_a_handshake_that_takes_too_long_is_ended(
    coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.transport.connection.HANDSHAKE_S", 0.2)
    async with await trio.open_tcp_stream(HOST, coordinator.port) as stream:
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b""


async def test_among_a_thousand_connections_a_node_is_admitted_and_stays(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    open_files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    pair = door_pair(coordinator)
    context = node_context(pair, coordinator.trust.ca_certificate)
    connections: list[TlsStream] = []

    async def connect_some(count: int) -> None:
        for _ in range(count):
            stream = await trio.open_tcp_stream(HOST, coordinator.port)
            connections.append(await handshake(stream, context, server_side=False, server_name=SERVER_NAME))

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(connect_some, 50)
        assert len(connections) == 1000
        assert await alpha.is_admitted()
        await alpha.renew()
    finally:
        for tls in connections:
            tls.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, most))
