"""How long a node waits before it comes back, after each way to be out. Time is trio's mock clock."""

import datetime as dt
import itertools

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tccp.config import NodeConfig
from tccp.errors import HostError, QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.node import daemon
from tccp.node.daemon import BACKOFF_FIRST_S, BACKOFF_MAX_S, BACKOFF_REFUSED_S, Node
from tccp.node.hypervisor import NoHypervisor
from tccp.node.identity import make_node_identity
from tccp.protocol.messages import Refused
from tccp.transport.certificates import Authority
from tccp.transport.connection import RefusalError
from tccp.transport.trust import CoordinatorTrust

GONE = HostError("peer_gone")
REFUSED = RefusalError(Refused(reason="pcr_not_in_policy"))
IMPOSTOR = QuoteError("coordinator_signature")
TRIES = 9


class Ends:
    """Connections that end as they are told to: (whether the node was admitted, what ended it)."""

    def __init__(self, *ends: tuple[bool, Exception]) -> None:
        self.ends = list(ends)
        self.began_at: list[float] = []

    async def connect(self, *_: object) -> "Ends":
        self.began_at.append(trio.current_time())
        if len(self.began_at) == TRIES:
            await trio.sleep_forever()
        return self

    async def register(self, *_: object) -> None:
        admitted, problem = self.ends[min(len(self.began_at), len(self.ends)) - 1]
        if not admitted:
            raise problem

    async def keep_lease(self, *arguments: object, **_: object) -> None:
        lease = arguments[-1]
        assert isinstance(lease, daemon.HeldLease)
        lease.renewals += 1
        raise self.ends[min(len(self.began_at), len(self.ends)) - 1][1]

    def push(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing was open."""


async def pauses_after(ends: Ends, clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a node without their jitter."""
    clock.autojump_threshold = 0
    monkeypatch.setattr("random.uniform", lambda *_: 1.0)
    for name in ("connect", "register", "keep_lease"):
        monkeypatch.setattr(daemon, name, getattr(ends, name))
    door = Authority.create("door", now=dt.datetime.now(tz=dt.UTC))
    config = {"name": "alpha", "coordinator": {"address": "127.0.0.1:1", "trust_file": "/trust"}}
    node = Node(
        config=msgspec.convert(config, NodeConfig),
        trust=CoordinatorTrust(
            bytes(32), door.certificate, b"", door, PcrValues(PcrSelection(PcrBank.SHA256, (0,)), {0: bytes(32)})
        ),
        identity=make_node_identity("alpha"),
        host=None,  # type: ignore[arg-type]
        tpm_name="",
        started_ms=0,
        hypervisor=NoHypervisor(),
    )
    with trio.move_on_after(1000):
        await node.stay_registered()
    return [round(after - before, 3) for before, after in itertools.pairwise(ends.began_at)]


async def test_a_coordinator_that_is_away_is_asked_less_and_less_often(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = await pauses_after(Ends((False, GONE)), mock_clock, monkeypatch)

    assert pauses == [min(BACKOFF_FIRST_S * 2**number, BACKOFF_MAX_S) for number in range(TRIES - 1)]


async def test_a_node_that_was_in_comes_back_quickly_and_then_waits_longer_again(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = await pauses_after(Ends((True, GONE), (False, GONE)), mock_clock, monkeypatch)

    assert pauses[:4] == [BACKOFF_FIRST_S, *(BACKOFF_FIRST_S * 2**number for number in range(1, 4))]
    assert pauses[-1] > BACKOFF_REFUSED_S


@pytest.mark.parametrize("was_in", [True, False])
@pytest.mark.parametrize("no", [REFUSED, IMPOSTOR])
async def test_a_node_that_is_refused_waits_for_a_person(
    no: Exception, was_in: bool, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = await pauses_after(Ends((was_in, no)), mock_clock, monkeypatch)

    assert min(pauses) >= BACKOFF_REFUSED_S


async def test_a_node_that_is_refused_after_many_renewals_does_not_hurry(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = await pauses_after(Ends((True, GONE), (True, REFUSED), (False, REFUSED)), mock_clock, monkeypatch)

    assert pauses[:2] == [BACKOFF_FIRST_S, BACKOFF_REFUSED_S]
    assert pauses[2] > BACKOFF_REFUSED_S


@pytest.mark.parametrize("reason", ["rebooted", "lease_expired", "lease_ended", "lease_unknown", "policy_changed"])
async def test_a_node_that_only_has_to_register_again_does_so_soon(
    reason: str, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = RefusalError(Refused(reason=reason))
    pauses = await pauses_after(Ends((True, again), (True, GONE)), mock_clock, monkeypatch)

    assert pauses[0] == BACKOFF_FIRST_S
