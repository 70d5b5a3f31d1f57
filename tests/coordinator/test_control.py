"""The coordinator's control socket: whatever an operator sends, there is an answer, and the coordinator lives."""

import contextlib
import random
import socket
import string
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from tccp.errors import ConfigError, RefusedError, TccpError
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.framing import frame
from tests.support.live_coordinator import DEADLINE_S, POLICY, ZERO, HonestNode, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm

EVERYTHING = (
    c.Done,
    c.CoordinatorStatus,
    c.NodeInfo,
    c.Nodes,
    c.PerimeterRecord,
    c.PolicyInfo,
    c.Policies,
    c.TrustFile,
    c.Event,
)
PEM = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----"


def enrol(name: str = "beta", **other: object) -> c.EnrolNode:
    fields = {"ek_certificate": b"", "ek_public": b"", "policy": POLICY, "attributes": {}} | other
    return c.EnrolNode(name=name, **fields)  # type: ignore[arg-type]


def imported(**other: object) -> c.ImportNodes:
    fields = {"name": "beta", "ek_id": bytes(32), "ek_public": b"", "policy": POLICY, "attributes": {}} | other
    node = c.EnrolledNode(**fields)  # type: ignore[arg-type]
    return c.ImportNodes(record=c.PerimeterRecord(nodes=(node,)))


NO = {
    "a name that is none": enrol("Beta Beta", ek_public=b"\x30"),
    "a name of one line end": enrol("beta\n", ek_public=b"\x30"),
    "neither certificate nor key": enrol(),
    "certificate and key": enrol(ek_certificate=b"1", ek_public=b"1"),
    "a certificate that is none": enrol(ek_certificate=b"certificate"),
    "PEM that is not base64": enrol(ek_certificate=PEM % b"A"),
    "PEM of nothing": enrol(ek_certificate=PEM % b""),
    "PEM of garbage": enrol(ek_public=PEM % b"AAAA"),
    "a key that is none": enrol(ek_public=bytes(20)),
    "a key that begins like one": enrol(ek_public=b"\x30garbage"),
    "an attribute without a name": enrol(ek_public=b"\x30", attributes={"": "x"}),
    "a long attribute": enrol(ek_public=b"\x30", attributes={"x": "y" * 300}),
    "a record with a name that is none": imported(name="Beta"),
    "a record with a long attribute": imported(attributes={"x": "y" * 300}),
    "a record with an attribute without a name": imported(attributes={"": ""}),
    "a node that nobody knows": c.ShowNode(name="nobody"),
    "a name that nobody could have": c.ShowNode(name="No Body"),
    "a policy that nobody knows": c.ShowPolicy(name="none", version=0),
    "a version that no database holds": c.ShowPolicy(name=POLICY, version=(1 << 64) - 1),
    "a place in the log that no database holds": c.WatchEvents(since=(1 << 64) - 1, follow=False),
    "an unknown policy for a node": c.SetNodePolicy(name="alpha", policy="none"),
    "a policy for an unknown node": c.SetNodePolicy(name="nobody", policy=POLICY),
    "a revocation of nobody": c.RevokeNode(name="nobody", reason=""),
    "a policy that is none": c.AddPolicy(body=b"\xff"),
    "a policy of brackets": c.AddPolicy(body=b"a=" + b"[" * 100_000),
    "a policy that allows everything": c.AddPolicy(body=b'name = "x"\nversion = 1\n'),
    "an older policy": c.AddPolicy(body=b'name = "tvmm"\nversion = 1\n[pcrs]\n0 = "' + b"00" * 32 + b'"\n'),
}


@pytest.mark.parametrize("request_", NO.values(), ids=NO)
async def test_what_cannot_be_done_is_answered_with_a_reason(
    request_: msgspec.Struct, coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    await coordinator.enrol("alpha", host)

    with pytest.raises(TccpError) as caught:
        await coordinator.ask(request_, msgspec.Struct)
    assert caught.value.reason != "daemon_gone"
    assert (await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)).nodes_enrolled == 1


async def test_whatever_is_asked_there_is_an_answer(coordinator: LiveCoordinator) -> None:
    chance = random.Random(7)
    for _ in range(300):
        request = any_request(chance)
        with contextlib.suppress(RefusedError, ConfigError):  # what the daemon said, and not that it is gone
            assert isinstance(await coordinator.ask(request, msgspec.Struct), EVERYTHING)
    await coordinator.log()


def any_request(chance: random.Random) -> msgspec.Struct:
    kinds: list[Callable[[], msgspec.Struct]] = [
        c.ListNodes,
        c.ListPolicies,
        c.ExportNodes,
        c.GetTrust,
        lambda: c.ShowNode(name=any_text(chance)),
        lambda: c.ShowPolicy(name=any_text(chance), version=chance.choice([0, 1, 1 << 40])),
        lambda: c.SetNodePolicy(name=any_text(chance), policy=any_text(chance)),
        lambda: c.RevokeNode(name=any_text(chance), reason=any_text(chance) * 4),
        lambda: enrol(any_text(chance), ek_public=any_bytes(chance), policy=any_text(chance)),
        lambda: enrol(any_text(chance), ek_certificate=any_bytes(chance)),
        lambda: imported(name=any_text(chance), ek_id=chance.randbytes(32), policy=any_text(chance)),
        lambda: imported(name=any_text(chance), ek_public=any_bytes(chance)),
        lambda: c.AddPolicy(body=b"version = " + any_bytes(chance)),
    ]
    return chance.choice(kinds)()


def any_text(chance: random.Random) -> str:
    alphabet = chance.choice([string.ascii_lowercase, string.printable, "äß\u2028\U0001f600\0"])
    return "".join(chance.choices(alphabet, k=chance.choice([1, 2, 63])))


def any_bytes(chance: random.Random) -> bytes:
    return chance.choice([b"\x30", b"\x00\x23", b""]) + chance.randbytes(chance.choice([0, 1, 100, 1000]))


GARBAGE = {
    "no frame": b"GET / HTTP/1.1\r\n\r\n",
    "an empty frame": bytes(4),
    "no msgpack": frame(b"\xc1"),
    "an unknown request": frame(b"\x91\xa4boom"),
    "an answer": frame(b"\x92\xa4done\x01"),
    "half a frame": (100).to_bytes(4, "big") + b"x",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_on_the_control_socket_harms_nobody(garbage: bytes, coordinator: LiveCoordinator) -> None:
    def say() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            client.connect(coordinator.services.config.control.socket)
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65_536):
                pass

    await trio.to_thread.run_sync(say)
    assert (await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)).nodes_enrolled == 0


async def test_a_perimeter_record_moves_to_another_coordinator(
    coordinator: LiveCoordinator, host: NodeTpm, other_host: NodeTpm, other_coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    await coordinator.enrol("alpha", host)
    await coordinator.enrol("beta", other_host, by_key=True)
    record = await coordinator.ask(c.ExportNodes(), c.PerimeterRecord)
    (tmp_path / "second").mkdir()
    async with live_coordinator(tmp_path / "second", other_coordinator_tpm) as second:
        await second.add_policy({0: ZERO})
        assert (await second.ask(c.ImportNodes(record=record), c.Done)).count == 2
        assert (await second.ask(c.ImportNodes(record=record), c.Done)).count == 0

        assert await HonestNode(second, "alpha", host).is_admitted()
        assert await HonestNode(second, "beta", other_host).is_admitted()
        assert await second.ask(c.ExportNodes(), c.PerimeterRecord) == record


async def test_a_record_that_contradicts_ours_is_taken_in_no_part(coordinator: LiveCoordinator, host: NodeTpm) -> None:
    await coordinator.enrol("alpha", host)
    beta = imported().record.nodes[0]
    other_alpha = msgspec.structs.replace(beta, name="alpha", ek_id=bytes(31) + b"\1")

    with pytest.raises(RefusedError, match="name_bound"):
        await coordinator.ask(c.ImportNodes(record=c.PerimeterRecord(nodes=(beta, other_alpha))), c.Done)
    assert [str(node.name) for node in await coordinator.store.list_nodes()] == ["alpha"]
