"""Tenant and coordinator run one table: what it lists passes, and everything else closes the session."""

from typing import get_args

import pytest

from tccp.errors import ProtocolError
from tccp.protocol.tenant_messages import (
    Activate,
    Activated,
    AddCosignature,
    AnyTenantMessage,
    GetHead,
    GetTile,
    Introduction,
    LogHead,
    LogTile,
    Probe,
    Probed,
    TenantHello,
    TenantRefused,
)
from tccp.protocol.tenant_session import TENANT_TRANSITIONS, TenantRole, TenantSession, TenantState
from tests.protocol.test_session import BLOB, N32, OWN

TENANT, COORDINATOR = TenantRole.TENANT, TenantRole.COORDINATOR
HELLO, REFUSED = TenantHello(1, N32), TenantRefused("busy")
SHOWN = Introduction(OWN, BLOB, (BLOB,), BLOB, BLOB, b"", BLOB, "", b"note", (b"note",))
ACTIVATE, ACTIVATED = Activate(BLOB, BLOB), Activated(N32)
ASKED, TILE = GetTile(0, 0, 256), LogTile(N32)
PROBE, PROBED = Probe("alpha", N32, N32, b"s" * 64), Probed(BLOB)
WANTED, HEAD, COSIGNED = GetHead(), LogHead(b"note"), AddCosignature(b"note")
SAMPLES: dict[type, AnyTenantMessage] = {
    type(message): message
    for message in (
        *(HELLO, SHOWN, ACTIVATE, ACTIVATED, ASKED, TILE, PROBE, PROBED),
        *(WANTED, HEAD, COSIGNED, REFUSED),
    )
}
INTRODUCED: list[tuple[TenantRole, AnyTenantMessage]] = [(TENANT, HELLO), (COORDINATOR, SHOWN)]
PROVED = [*INTRODUCED, (TENANT, ACTIVATE), (COORDINATOR, ACTIVATED)]
READING, PROBING = [(TENANT, ASKED), (COORDINATOR, TILE)], [(TENANT, PROBE), (COORDINATOR, PROBED)]
PUBLIC = [(TENANT, WANTED), (COORDINATOR, HEAD)]
CONVERSATIONS = [
    [*PROVED, *READING, *READING, *PROBING],
    [*INTRODUCED, *READING, *PROBING, *READING],
    [*INTRODUCED, *PROBING],
    [*PUBLIC, *PUBLIC, *READING, (TENANT, COSIGNED), (COORDINATOR, HEAD)],
    *([*before, (COORDINATOR, REFUSED)] for before in (PROVED[:1], PROVED[:3], [*PROVED, *READING[:1]], PUBLIC[:1])),
    *([*before, (COORDINATOR, REFUSED)] for before in ([*PROVED, *PROBING[:1]], [*PUBLIC, *READING[:1]])),
]


def in_state(state: TenantState, role: TenantRole) -> TenantSession:
    session = TenantSession(role)
    session.state = state
    return session


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_a_legal_conversation_passes(conversation: list[tuple[TenantRole, AnyTenantMessage]]) -> None:
    ends = {role: TenantSession(role) for role in TenantRole}
    for sender, message in conversation:
        ends[sender.peer].receive_data(ends[sender].send(message))

        assert ends[sender.peer].next_message() == message
        assert ends[TENANT].state == ends[COORDINATOR].state
    assert ends[TENANT].is_over == (message is REFUSED)


def test_every_message_has_a_place_in_the_table() -> None:
    assert {kind for _, _, kind in TENANT_TRANSITIONS} == set(get_args(AnyTenantMessage)) == set(SAMPLES)


@pytest.mark.parametrize("role", list(TenantRole))
@pytest.mark.parametrize("kind", list(SAMPLES))
def test_what_the_table_does_not_list_closes_the_session(role: TenantRole, kind: type) -> None:
    sender, before = next((sender, before) for sender, before, said in TENANT_TRANSITIONS if said is kind)
    wire = in_state(before, sender).send(SAMPLES[kind])
    for state in TenantState:
        if (role.peer, state, kind) in TENANT_TRANSITIONS:
            continue
        with pytest.raises(KeyError):
            in_state(state, role.peer).send(SAMPLES[kind])
        session = in_state(state, role)
        session.receive_data(wire)

        with pytest.raises(ProtocolError) as refused:
            session.next_message()
        assert refused.value.reason == "out_of_turn"
        assert session.is_over
