"""One connection between a node and a coordinator: registration, then renewals until the lease ends.

The table is the protocol, and both sides run it. The coordinator speaks when it wants fresh evidence, so that it
can pace renewals, ask at once after a policy changed, and needs one wake-up for each. Keys of VMs are asked for and
released beside that, in any state of an admitted node, and change none.
"""

import enum
from typing import TypeVar

from tccp.errors import ProtocolError
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import FrameReader, frame
from tccp.protocol.messages import (
    Admitted,
    AnyMessage,
    Challenge,
    Evidence,
    Hello,
    KeyRefused,
    KeyRelease,
    KeyRequest,
    Refused,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
    Revoked,
    VmEnded,
    VmEndRecorded,
)

M = TypeVar("M", bound=AnyMessage)


class Role(enum.Enum):
    """The two ends."""

    NODE = "node"
    COORDINATOR = "coordinator"

    @property
    def peer(self) -> "Role":
        """The other end."""
        return Role.NODE if self is Role.COORDINATOR else Role.COORDINATOR


class State(enum.Enum):
    """How far trust has come."""

    NEW = "new"
    IDENTIFIED = "identified"
    CHALLENGED = "challenged"
    ANSWERED = "answered"
    ADMITTED = "admitted"
    RENEWAL_CHALLENGED = "renewal_challenged"
    RENEWAL_ANSWERED = "renewal_answered"
    CLOSED = "closed"


_ADMITTED = (State.ADMITTED, State.RENEWAL_CHALLENGED, State.RENEWAL_ANSWERED)

# (sender, state before, message) -> state after
TRANSITIONS: dict[tuple[Role, State, type], State] = {
    (Role.NODE, State.NEW, Hello): State.IDENTIFIED,
    (Role.COORDINATOR, State.IDENTIFIED, Challenge): State.CHALLENGED,
    (Role.COORDINATOR, State.IDENTIFIED, Refused): State.CLOSED,
    (Role.NODE, State.CHALLENGED, Evidence): State.ANSWERED,
    (Role.COORDINATOR, State.ANSWERED, Admitted): State.ADMITTED,
    (Role.COORDINATOR, State.ANSWERED, Refused): State.CLOSED,
    (Role.COORDINATOR, State.ADMITTED, RenewalChallenge): State.RENEWAL_CHALLENGED,
    (Role.COORDINATOR, State.ADMITTED, Refused): State.CLOSED,
    (Role.NODE, State.RENEWAL_CHALLENGED, RenewalEvidence): State.RENEWAL_ANSWERED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, Renewed): State.ADMITTED,
    # The policy changed while the node answered, or the answer could not be stored: once more.
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, RenewalChallenge): State.RENEWAL_CHALLENGED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, Refused): State.CLOSED,
    (Role.COORDINATOR, State.ADMITTED, Revoked): State.CLOSED,
    (Role.COORDINATOR, State.RENEWAL_CHALLENGED, Revoked): State.CLOSED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, Revoked): State.CLOSED,
    # Whatever is under way with the lease: either side may say these while the other says something else.
    **{(Role.NODE, state, said): state for state in _ADMITTED for said in (KeyRequest, VmEnded)},
    **{
        (Role.COORDINATOR, state, said): state
        for state in _ADMITTED
        for said in (KeyRelease, KeyRefused, VmEndRecorded)
    },
}


class Session:
    """One end of a connection: what may be said now, and what has been said."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.NEW
        self._frames = FrameReader()

    def send(self, message: AnyMessage) -> bytes:
        """The bytes to put on the wire. Sending out of turn is a bug of ours: KeyError."""
        self.state = TRANSITIONS[self.role, self.state, type(message)]
        return frame(encode(message))

    def receive_data(self, data: bytes) -> None:
        """Take bytes as they arrive, cut anywhere."""
        self._frames.receive_data(data)

    def next_message(self) -> AnyMessage | None:
        """The peer's next message, or None until more data has come.

        Raises:
            ProtocolError: The peer broke the protocol; the state is CLOSED from then on.
                Any other exception from this method is a bug in tccp.
        """
        try:
            payload = self._frames.next_frame()
            if payload is None:
                return None
            message: AnyMessage = decode(payload, AnyMessage)
            self.state = self._after(message)
        except ProtocolError:
            self.state = State.CLOSED
            raise
        return message

    def _after(self, message: AnyMessage) -> State:
        after = TRANSITIONS.get((self.role.peer, self.state, type(message)))
        if after is None:
            said = type(message).__name__
            raise ProtocolError("out_of_turn", f"{said} from the {self.role.peer.value} while {self.state.value}")
        return after

    @property
    def holds_partial_message(self) -> bool:
        """Part of a message has arrived: a peer that vanishes now broke off in the middle."""
        return self._frames.holds_partial_frame


def expect(message: AnyMessage, kind: type[M]) -> M:
    """*message*, known to be a *kind*.

    Raises:
        ProtocolError: It is another message, legal in its place but not for the caller.
    """
    if not isinstance(message, kind):
        raise ProtocolError("out_of_turn", f"{type(message).__name__} where {kind.__name__} was due")
    return message
