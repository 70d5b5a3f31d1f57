"""Both ends run one table: legal conversations pass however they are cut, everything else closes the session."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import ProtocolError
from tccp.protocol.framing import frame
from tccp.protocol.messages import (
    Admitted,
    AnyMessage,
    Challenge,
    CoordinatorEvidence,
    Evidence,
    Hello,
    HostLogPart,
    HostLogRequest,
    KeyRefused,
    KeyRelease,
    KeyRequest,
    MoveArrived,
    MoveGo,
    MoveOrder,
    MovePrepared,
    MoveRequest,
    MoveStayed,
    MoveWiped,
    Refused,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
    ResumeRequest,
    Revoked,
    VmDestroyed,
    VmDestroyRecorded,
    VmEnded,
    VmEndRecorded,
    VmMarked,
    VmMarksRecorded,
    VmReportRecorded,
    VmReportRefused,
    VmSuspended,
    VmSuspendRecorded,
)
from tccp.protocol.session import TRANSITIONS, Role, Session, State, expect

N32, ID, BLOB = b"n" * 32, b"i" * 16, b"b" * 100
OWN = CoordinatorEvidence(BLOB, b"s" * 64, BLOB, BLOB, 11, (0,), (N32,), 0, 1, ())
HELLO = Hello(1, N32, BLOB, (BLOB,), BLOB, BLOB)
CHALLENGE = Challenge(OWN, BLOB, BLOB, N32, 11, (0, 7))
EVIDENCE = Evidence(N32, BLOB, BLOB, BLOB, (N32, N32), b"")
ADMITTED = Admitted(ID, 60, BLOB, BLOB)
ASKED = RenewalChallenge(ID, N32, 11, (0,))
QUOTED = RenewalEvidence(BLOB, BLOB, (N32,))
RENEWED = Renewed(ID, 60, BLOB)
REFUSED, REVOKED = Refused("untrusted"), Revoked("revoked")
WANTED, KEYS, NO_KEYS = (
    KeyRequest(BLOB, b"s" * 64, N32),
    KeyRelease(N32, ID, 1, b"w" * 1200, b"", 0, b"", b"", BLOB),
    KeyRefused(N32, "x"),
)
OVER, RECORDED = VmEnded(ID, 1, b"", b"", "crashed"), VmEndRecorded(ID, 1)
MARKED, MARKS_KEPT = VmMarked(ID, 1, b"m" * 40), VmMarksRecorded(ID, 1, b"m" * 40)
SHOW, SHOWN = HostLogRequest("ima", 7), HostLogPart(BLOB)
REGISTERING = (HELLO, CHALLENGE, EVIDENCE, ADMITTED, ASKED, QUOTED, RENEWED, REFUSED, REVOKED)
LAUNCHING = (WANTED, KEYS, NO_KEYS, MARKED, MARKS_KEPT, OVER, RECORDED)
AGAIN, STILL, STILL_RECORDED = (
    ResumeRequest(BLOB, b"s" * 64, N32, N32),
    VmSuspended(ID, 1, 1, N32, b"", b""),
    VmSuspendRecorded(ID, 1),
)
GONE, GONE_RECORDED, NOT_RECORDED = (
    VmDestroyed(ID, 1, BLOB, b"s" * 64),
    VmDestroyRecorded(ID, 1, BLOB),
    VmReportRefused("vm_suspended", ID, 1, "vm_epoch_over", b""),
)
TAKER, PREPARED = MoveRequest(BLOB, b"s" * 64, N32, "10.0.0.1:7"), MovePrepared(N32, ID, 2, b"w" * 1200, N32, b"", BLOB)
SEND_IT, HERE = MoveOrder(ID, 1, N32, "beta", "10.0.0.1:7", N32), MoveArrived(ID, 2, N32, b"")
LEFT, STAYED = MoveWiped(ID, 1, N32, BLOB, b"s" * 64), MoveStayed(ID, 1, N32, "unreachable")
GO, REPORTED = MoveGo(ID, 2, N32, BLOB), VmReportRecorded("move_wiped", ID, 1, N32)
MOVING = (TAKER, PREPARED, SEND_IT, HERE, LEFT, STAYED, GO, REPORTED)
ENDING = (AGAIN, STILL, STILL_RECORDED, GONE, GONE_RECORDED, NOT_RECORDED)
SAMPLES: dict[type, AnyMessage] = {
    type(message): message for message in (*REGISTERING, SHOW, SHOWN, *LAUNCHING, *ENDING, *MOVING)
}
NODE, COORDINATOR = Role.NODE, Role.COORDINATOR
REGISTERED = [(NODE, HELLO), (COORDINATOR, CHALLENGE), (NODE, EVIDENCE), (COORDINATOR, ADMITTED)]
RENEWAL = [(COORDINATOR, ASKED), (NODE, QUOTED), (COORDINATOR, RENEWED)]
SHOWING = [(COORDINATOR, SHOW), (NODE, SHOWN)]
CONVERSATIONS = [
    REGISTERED,
    [*REGISTERED, *RENEWAL, *RENEWAL],
    [*REGISTERED, *RENEWAL[:2], *RENEWAL],
    [*REGISTERED[:3], *SHOWING, *SHOWING, *REGISTERED[3:], *RENEWAL[:2], *SHOWING, *RENEWAL[2:]],
    [*REGISTERED, *RENEWAL[:2], *SHOWING[:1], (NODE, OVER), (COORDINATOR, REVOKED)],
    [(NODE, HELLO), (COORDINATOR, REFUSED)],
    [*REGISTERED[:3], (COORDINATOR, REFUSED)],
    [*REGISTERED, (COORDINATOR, REVOKED)],
    [*REGISTERED, (COORDINATOR, REFUSED)],
    [*REGISTERED, *RENEWAL[:2], *RENEWAL],
    [*REGISTERED, *RENEWAL[:1], (COORDINATOR, REVOKED)],
    [*REGISTERED, *RENEWAL[:2], (COORDINATOR, REFUSED)],
    [*REGISTERED, *RENEWAL[:2], (COORDINATOR, REVOKED)],
    [*REGISTERED, (NODE, WANTED), (COORDINATOR, NO_KEYS), (NODE, WANTED), (COORDINATOR, KEYS), *RENEWAL],
    [*REGISTERED, (NODE, WANTED), *RENEWAL[:1], (NODE, OVER), *RENEWAL[1:2], (COORDINATOR, KEYS), *RENEWAL[2:]],
    [*REGISTERED, *RENEWAL[:1], (NODE, MARKED), (NODE, OVER), (COORDINATOR, MARKS_KEPT), (COORDINATOR, RECORDED)],
    [*REGISTERED, (NODE, STILL), *RENEWAL[:2], (COORDINATOR, STILL_RECORDED), (NODE, AGAIN), (COORDINATOR, KEYS)],
    [*REGISTERED, (NODE, TAKER), *RENEWAL, (COORDINATOR, PREPARED), (NODE, HERE), *RENEWAL, (COORDINATOR, GO)],
    [*REGISTERED, (COORDINATOR, SEND_IT), *RENEWAL[:1], (NODE, LEFT), (COORDINATOR, REPORTED), (NODE, STAYED)],
    [*REGISTERED, (NODE, STILL), (NODE, GONE), (COORDINATOR, NOT_RECORDED), (COORDINATOR, GONE_RECORDED)],
]


def in_state(state: State, role: Role) -> Session:
    session = Session(role)
    session.state = state
    return session


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@given(data=st.data())
def test_a_legal_conversation_passes_however_its_bytes_are_cut(
    conversation: list[tuple[Role, AnyMessage]], data: st.DataObject
) -> None:
    ends = {role: Session(role) for role in Role}
    for sender, message in conversation:
        wire = ends[sender].send(message)
        receiver = ends[sender.peer]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=4)))
        received = []
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            receiver.receive_data(wire[start:end])
            while (arrived := receiver.next_message()) is not None:
                received.append(arrived)

        assert received == [message]
        assert ends[NODE].state == ends[COORDINATOR].state


def test_every_message_has_a_place_in_the_table() -> None:
    assert {kind for _, _, kind in TRANSITIONS} == set(get_args(AnyMessage)) == set(SAMPLES)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("kind", list(SAMPLES))
def test_what_the_table_does_not_list_closes_the_session(role: Role, state: State, kind: type) -> None:
    if (role.peer, state, kind) in TRANSITIONS:
        return
    session, peer = in_state(state, role), Session(role.peer)
    with pytest.raises(KeyError):
        in_state(state, role.peer).send(SAMPLES[kind])
    peer.state = next(before for sender, before, said in TRANSITIONS if said is kind)
    said_by = next(sender for sender, _, said in TRANSITIONS if said is kind)
    session.receive_data(in_state(peer.state, said_by).send(SAMPLES[kind]))

    with pytest.raises(ProtocolError) as refused:
        session.next_message()
    assert refused.value.reason == "out_of_turn"
    assert refused.value.detail == f"{kind.__name__} from the {role.peer.value} while {state.value}"
    assert session.state is State.CLOSED


@pytest.mark.parametrize("role", list(Role))
@given(garbage=st.binary(min_size=1, max_size=200))
def test_garbage_closes_the_session_with_a_protocol_error_and_nothing_else(role: Role, garbage: bytes) -> None:
    session = Session(role)
    session.receive_data(frame(garbage))
    with pytest.raises(ProtocolError):
        session.next_message()
    assert session.state is State.CLOSED


@given(garbage=st.binary(max_size=200))
def test_an_unframed_stream_is_waited_for_or_refused(garbage: bytes) -> None:
    session = Session(COORDINATOR)
    session.receive_data(garbage)
    try:
        assert session.next_message() is None
    except ProtocolError:
        assert session.state is State.CLOSED


def test_nothing_is_legal_once_a_session_is_closed() -> None:
    session = Session(COORDINATOR)
    session.receive_data(frame(b"garbage") + Session(NODE).send(HELLO))
    with pytest.raises(ProtocolError):
        session.next_message()

    with pytest.raises(ProtocolError, match="out_of_turn"):
        session.next_message()


def test_a_message_of_another_kind_is_not_what_the_caller_expects() -> None:
    assert expect(REFUSED, Refused) is REFUSED
    with pytest.raises(ProtocolError, match=r"^out_of_turn: Refused where Admitted was due"):
        expect(REFUSED, Admitted)


def test_a_peer_that_breaks_off_within_a_message_is_known() -> None:
    session = Session(COORDINATOR)
    session.receive_data(Session(NODE).send(HELLO)[:-1])

    assert session.next_message() is None
    assert session.holds_partial_message
