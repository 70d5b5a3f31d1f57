"""How far a VM is on its way from node to node, and in the end what that took, as one end of the move knows it."""

from dataclasses import dataclass, field

import trio

from tccp.protocol.transfer import SourceWord, TransferProgress, TransferSent
from tccp.protocol.vm_control import VmTransfer

COUNT_MAX = (1 << 63) - 1
NOTHING_YET = TransferProgress(0, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Transfer:
    """One move.

    Attributes:
        scope: Cancelled to give it up, at the source; it goes on there.
    """

    began_at: float = field(default_factory=trio.current_time)
    progress: TransferProgress = NOTHING_YET
    sent: TransferSent | None = None
    sent_at: float = 0.0
    ended_at: float | None = None  # it runs at the destination; or, at the source, nothing is left of it
    scope: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)

    def hear(self, word: SourceWord) -> None:
        """What the source says."""
        if isinstance(word, TransferSent):
            self.sent, self.sent_at = word, trio.current_time()
        else:
            self.progress = word

    def end(self) -> None:
        """It is over, for this end."""
        self.ended_at = trio.current_time()

    def cancel(self) -> None:
        """Give it up."""
        self.scope.cancel()

    def info(self) -> VmTransfer:
        """As the control socket shows it."""
        now = trio.current_time() if self.ended_at is None else self.ended_at
        how, sent = self.progress, self.sent
        return VmTransfer(
            disk_bytes=how.disk_bytes,
            disk_left_bytes=0 if sent else how.disk_left_bytes,
            memory_bytes=how.memory_bytes,
            memory_left_bytes=0 if sent else how.memory_left_bytes,
            sent_bytes=_count(sent.state_bytes + sent.disk_bytes) if sent else how.sent_bytes,
            bytes_per_s=0 if sent else how.bytes_per_s,
            rounds=how.rounds,
            state_sent_bytes=sent.state_bytes if sent else 0,
            disk_sent_bytes=sent.disk_bytes if sent else 0,
            total_ms=0 if self.ended_at is None else int(1000 * (now - self.began_at)),
            # What has passed at each end by its own clock; the way from one to the other is not in it.
            still_ms=_count(sent.still_ms + int(1000 * (now - self.sent_at)))
            if sent and self.ended_at is not None
            else 0,
        )


def _count(number: int) -> int:
    """As much as can be said of what another node says."""
    return min(number, COUNT_MAX)
