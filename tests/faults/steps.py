"""Every moment at which an exchange about a VM can break, made from the tables of the protocol.

Each message has two moments, `UNSENT` and `UNHEARD`: its sender has not said it yet, and its receiver has not taken
it in. One on which the coordinator's record changes has two more in between, `UNSTORED` and `STORED`. Beside them are
those moments of a node, between two messages, at which it does what cannot be undone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tccp.protocol.messages import (
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
    ResumeRequest,
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
from tccp.protocol.session import TRANSITIONS, State

UNSENT, UNHEARD, UNSTORED, STORED = "unsent", "unheard", "unstored", "stored"

# What is said in each exchange, in order; where two begin alike, the second has what is different.
EXCHANGES: dict[str, Sequence[type[msgspec.Struct]]] = {
    "launch": (KeyRequest, KeyRelease),
    "refusal": (KeyRefused,),
    "mark": (VmMarked, VmMarksRecorded),
    "stop": (VmEnded, VmEndRecorded),
    "suspend": (VmSuspended, VmSuspendRecorded),
    "resume": (ResumeRequest, KeyRelease),
    "move": (MoveRequest, MovePrepared, MoveOrder, MoveArrived, MoveWiped, VmReportRecorded, MoveGo),
    "stay": (MoveStayed, VmReportRecorded),
    "destroy": (VmDestroyed, VmDestroyRecorded),
    "destroy elsewhere": (VmReportRefused,),
}
# The transaction of the store that a message leads to.
STORED_BY: dict[type[msgspec.Struct], str] = {
    KeyRequest: "release",
    ResumeRequest: "resume",
    MoveRequest: "prepare_move",
    MoveArrived: "arrive",
    MoveWiped: "commit_move",
    MoveStayed: "abort_move",
    VmMarked: "register_marks",
    VmEnded: "end_vm",
    VmSuspended: "suspend_vm",
    VmDestroyed: "destroy_vm",
}
# What a node does by itself: exchange -> moment -> the message before it.
LOCAL: dict[str, dict[str, type[msgspec.Struct] | None]] = {
    "launch": {"opening": KeyRelease, "going": KeyRelease},
    "suspend": {"sealing": None},
    "resume": {"opening": KeyRelease, "going": KeyRelease},
    "move": {"sending": MoveOrder, "sent": MoveOrder, "forgotten": MoveArrived, "going": MoveGo},
    "destroy": {"erasing": None},
}
# Between which moments, both included, a node has processes of the VM; None: from the first, or to the last.
COPIES: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "launch": {"source": ("going", None)},
    "mark": {"source": (None, None)},
    "suspend": {"source": (None, "sealing")},
    "resume": {"destination": ("going", None)},
    "move": {"source": (None, "sent"), "destination": ("sending", None)},
    "stay": {"source": (None, None)},
    "destroy elsewhere": {"destination": (None, None)},
}
# The actions of formal/Ownership.tla that are a step here.
OF_THE_MODEL: dict[str, str] = {
    "Launch": "launch: key_request stored",
    "Unpause": "launch: opening",
    "Prepare": "move: move_request stored",
    "Transfer": "move: sent",
    "Wipe": "move: forgotten",
    "Commit": "move: move_wiped stored",
    "Abort": "stay: move_stayed stored",
    "Suspend": "suspend: vm_suspended stored",
    "Resume": "resume: resume_request stored",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A moment of an exchange.

    Attributes:
        moment: What the daemon that is at it calls it: ``key_request unsent``, ``sending``.
    """

    exchange: str
    moment: str

    def __str__(self) -> str:
        return f"{self.exchange}: {self.moment}"


def tag_of(message: type[msgspec.Struct]) -> str:
    """What a message is called on the wire."""
    return str(message.__struct_config__.tag)


def messages_about_vms() -> set[type[msgspec.Struct]]:
    """What the protocol's table lets either side say of VMs: whatever leaves an admitted node admitted."""
    return {
        message
        for (_, before, message), after in TRANSITIONS.items()
        if before is State.ADMITTED and after is State.ADMITTED
    }


def moments_of(message: type[msgspec.Struct]) -> list[str]:
    """Those of one message."""
    stored = [UNSTORED, STORED] if message in STORED_BY else []
    return [f"{tag_of(message)} {when}" for when in (UNSENT, UNHEARD, *stored)]


def steps_of(exchange: str) -> list[Step]:
    """In order."""
    local = LOCAL.get(exchange, {})
    moments = [name for name, before in local.items() if before is None]
    for message in EXCHANGES[exchange]:
        moments += moments_of(message)
        moments += [name for name, before in local.items() if before is message]
    return [Step(exchange, moment) for moment in moments]


STEPS = [step for exchange in EXCHANGES for step in steps_of(exchange)]


def has_copy(step: Step, node: str) -> bool:
    """Whether processes of the VM are on *node*, ``source`` or ``destination``, at that step."""
    if node not in COPIES.get(step.exchange, {}):
        return False
    moments = [other.moment for other in steps_of(step.exchange)]
    first, last = COPIES[step.exchange][node]
    begin = 0 if first is None else moments.index(first)
    end = len(moments) if last is None else moments.index(last) + 1
    return begin <= moments.index(step.moment) < end
