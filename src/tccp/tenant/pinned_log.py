"""The log of a pinned coordinator: what a receipt of it must hold against, offline, by what was pinned alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tccp.errors import LogError
from tccp.tenant.trust_store import PinnedCoordinator
from tccp.transparency.checkpoint import Checkpoint
from tccp.transparency.note import NoteKey
from tccp.transparency.receipt import VerifiedReceipt, verify_receipt


@dataclass(frozen=True, slots=True)
class PinnedLog:
    """What was pinned of a coordinator when it was verified.

    Attributes:
        seen: The head of its log that was seen last; None: none is remembered.
    """

    coordinator_id: bytes
    origin: str
    log_key: NoteKey
    witnesses: Sequence[NoteKey] = field(default=())
    witnesses_required: int = 0
    seen: Checkpoint | None = None

    def verify(self, receipt: bytes) -> VerifiedReceipt:
        """Check that an entry is in its log, cosigned as was demanded, and that the details are the entry's.

        Raises:
            LogError: As `verify_receipt`; ``fork``: it is under a head that contradicts the one that was seen.
        """
        verified = verify_receipt(
            receipt,
            origin=self.origin,
            log_key=self.log_key,
            witnesses=self.witnesses,
            witnesses_required=self.witnesses_required,
        )
        refuse_fork(verified.checkpoint.checkpoint, self.seen)
        return verified


def refuse_fork(head: Checkpoint, seen: Checkpoint | None) -> None:
    """Check that *head* does not contradict the head that was seen: of as many entries there is one log.

    Raises:
        LogError: ``fork``.
    """
    if seen is not None and head.size == seen.size and head.root != seen.root:
        hint = "Keep both: the coordinator signed two histories. Show them to its operator, and to others."
        raise LogError("fork", f"of {head.size} entries you have seen another log", hint=hint)


def pinned_log_of(pinned: PinnedCoordinator) -> PinnedLog:
    """What was pinned, with the witnesses that were demanded and the head that was seen."""
    demands = pinned.demands
    return PinnedLog(
        pinned.coordinator_id,
        pinned.origin,
        pinned.note_key,
        demands.witnesses,
        demands.witnesses_required,
        pinned.head,
    )
