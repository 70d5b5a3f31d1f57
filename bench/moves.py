"""What a move took, and medians of that."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Move:
    """One of them, in seconds and bytes."""

    total_s: float
    downtime_s: float
    sent_bytes: int


def median(moves: Sequence[Move]) -> Move:
    """Of each number for itself."""
    total, down, sent = (
        statistics.median([getattr(move, name) for move in moves]) for name in ("total_s", "downtime_s", "sent_bytes")
    )
    return Move(total, down, int(sent))


def rows(what: str, theirs: Move, ours: Move) -> list[list[str]]:
    """Of a table: by hand, ours, ratio."""
    return [
        [f"{what}: total", f"{theirs.total_s:.2f} s", f"{ours.total_s:.2f} s", f"{ours.total_s / theirs.total_s:.2f}"],
        [f"{what}: guest stands still", _ms(theirs.downtime_s), _ms(ours.downtime_s), "-"],
        [f"{what}: sent", f"{theirs.sent_bytes / 1e6:.0f} MB", f"{ours.sent_bytes / 1e6:.0f} MB", "-"],
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"
