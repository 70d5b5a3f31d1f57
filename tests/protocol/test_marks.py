"""Marks of disks: read as they are laid out, and never said to go on when one goes back."""

import pytest

from tccp.errors import LaunchError
from tccp.protocol.marks import MARK_BYTES, MARKS_MAX, check_marks, go_on, split_marks


def mark(sequence: int, moment: bytes = b"m") -> bytes:
    return sequence.to_bytes(8, "little") + moment.ljust(32, b"\0")


@pytest.mark.parametrize("count", [0, 1, MARKS_MAX])
def test_whole_marks_are_taken_apart_in_their_order(count: int) -> None:
    each = tuple(mark(number) for number in range(count))

    assert split_marks(check_marks(b"".join(each))) == each


@pytest.mark.parametrize("size", [1, MARK_BYTES - 1, MARK_BYTES + 1, (MARKS_MAX + 1) * MARK_BYTES])
def test_a_piece_of_a_mark_or_too_many_are_refused(size: int) -> None:
    with pytest.raises(LaunchError) as refused:
        check_marks(bytes(size))
    assert refused.value.reason == "marks_malformed"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (mark(1), mark(2), True),
        (mark(1), mark(1), True),
        (mark(2), mark(1), False),
        (mark(1), mark(1, b"another"), False),  # of one moment there is one state
        (mark(0xFF), mark(0x100), True),  # little-endian
        (mark(1) + mark(5), mark(2) + mark(5), True),
        (mark(1) + mark(5), mark(2) + mark(4), False),
        (mark(1), mark(2) + mark(2), False),
        (mark(1) + mark(1), mark(2), False),
        (b"", b"", True),
    ],
)
def test_marks_go_on_if_each_is_the_same_or_later(before: bytes, after: bytes, expected: bool) -> None:
    assert go_on(before, after) is expected
