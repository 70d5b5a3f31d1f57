"""How far a VM's vTPM and disks have come: what may be demanded of them when nobody can say how they were left.

    marks = { u64 sequence, little-endian || 32 bytes that name the moment }*

One for the vTPM, then one for each disk in the order of the ticket. To the coordinator they are numbers that grow
as long as a VM has one owner, and nothing else.
"""

from tccp.errors import LaunchError

MARK_BYTES = 40
MARKS_MAX = 9
_SEQUENCE_BYTES = 8


def check_marks(marks: bytes) -> bytes:
    """*marks*, if they are some.

    Raises:
        LaunchError: ``marks_malformed``.
    """
    if len(marks) % MARK_BYTES or len(marks) > MARKS_MAX * MARK_BYTES:
        raise LaunchError("marks_malformed", f"{len(marks)} bytes")
    return marks


def split_marks(marks: bytes) -> tuple[bytes, ...]:
    """Each of them; they were checked before."""
    return tuple(marks[at : at + MARK_BYTES] for at in range(0, len(marks), MARK_BYTES))


def go_on(before: bytes, after: bytes) -> bool:
    """Whether *after* may follow *before*: as many, and each is the same or of a later moment."""
    pairs = list(zip(split_marks(before), split_marks(after), strict=False))
    return len(before) == len(after) and all(old == new or _sequence(old) < _sequence(new) for old, new in pairs)


def _sequence(mark: bytes) -> int:
    return int.from_bytes(mark[:_SEQUENCE_BYTES], "little")
