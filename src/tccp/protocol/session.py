"""One connection between a node and a coordinator: registration, then renewals until the lease ends.

The table is the protocol, and both sides run it. The coordinator speaks when it wants fresh evidence, so that it
can pace renewals, ask at once after a policy changed, and needs one wake-up for each. Keys of VMs are asked for and
released beside that, in any state of an admitted node, and change none.
"""

import enum
from typing import get_args

from tccp.protocol.conversation import Conversation, End, expect
from tccp.protocol.messages import (
    Admitted,
    AnyMessage,
    Challenge,
    Evidence,
    Hello,
    HostLogPart,
    HostLogRequest,
    MoveOrder,
    NodeReport,
    NodeRequest,
    Refused,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
    Revoked,
    VmAnswer,
)

__all__ = ["TRANSITIONS", "Role", "Session", "State", "expect"]


class Role(End):
    """The two ends."""

    NODE = "node"
    COORDINATOR = "coordinator"


class State(enum.Enum):
    """How far trust has come."""

    NEW = "new"
    IDENTIFIED = "identified"
    CHALLENGED = "challenged"
    ANSWERED = "answered"
    LOG_ASKED = "log_asked"
    ADMITTED = "admitted"
    RENEWAL_CHALLENGED = "renewal_challenged"
    RENEWAL_ANSWERED = "renewal_answered"
    RENEWAL_LOG_ASKED = "renewal_log_asked"
    CLOSED = "closed"


_ADMITTED = (State.ADMITTED, State.RENEWAL_CHALLENGED, State.RENEWAL_ANSWERED, State.RENEWAL_LOG_ASKED)

# (sender, state before, message) -> state after
TRANSITIONS: dict[tuple[Role, State, type], State] = {
    (Role.NODE, State.NEW, Hello): State.IDENTIFIED,
    (Role.COORDINATOR, State.IDENTIFIED, Challenge): State.CHALLENGED,
    (Role.COORDINATOR, State.IDENTIFIED, Refused): State.CLOSED,
    (Role.NODE, State.CHALLENGED, Evidence): State.ANSWERED,
    # What the policy needs beside the quote, again and again.
    (Role.COORDINATOR, State.ANSWERED, HostLogRequest): State.LOG_ASKED,
    (Role.NODE, State.LOG_ASKED, HostLogPart): State.ANSWERED,
    (Role.COORDINATOR, State.ANSWERED, Admitted): State.ADMITTED,
    (Role.COORDINATOR, State.ANSWERED, Refused): State.CLOSED,
    (Role.COORDINATOR, State.ADMITTED, RenewalChallenge): State.RENEWAL_CHALLENGED,
    (Role.COORDINATOR, State.ADMITTED, Refused): State.CLOSED,
    (Role.NODE, State.RENEWAL_CHALLENGED, RenewalEvidence): State.RENEWAL_ANSWERED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, HostLogRequest): State.RENEWAL_LOG_ASKED,
    (Role.NODE, State.RENEWAL_LOG_ASKED, HostLogPart): State.RENEWAL_ANSWERED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, Renewed): State.ADMITTED,
    # The policy changed while the node answered, or the answer could not be stored: once more.
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, RenewalChallenge): State.RENEWAL_CHALLENGED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, Refused): State.CLOSED,
    (Role.COORDINATOR, State.ADMITTED, Revoked): State.CLOSED,
    (Role.COORDINATOR, State.RENEWAL_CHALLENGED, Revoked): State.CLOSED,
    (Role.COORDINATOR, State.RENEWAL_ANSWERED, Revoked): State.CLOSED,
    (Role.COORDINATOR, State.RENEWAL_LOG_ASKED, Revoked): State.CLOSED,
    # Whatever is under way with the lease: either side may say these while the other says something else.
    **{(Role.NODE, state, said): state for state in _ADMITTED for said in get_args(NodeRequest | NodeReport)},
    **{(Role.COORDINATOR, state, said): state for state in _ADMITTED for said in get_args(VmAnswer | MoveOrder)},
}


class Session(Conversation[Role, State, AnyMessage]):
    """One end of a connection between node and coordinator."""

    def __init__(self, role: Role) -> None:
        super().__init__(TRANSITIONS, AnyMessage, own=role, new=State.NEW, closed=State.CLOSED)
