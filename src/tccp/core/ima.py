"""IMA measurement lists, replayed and judged in C."""

from typing import Any, TypeAlias

from tccp.core._lib import check, ffi, lib
from tccp.errors import ImaError

__all__ = ["AGGREGATE_BYTES", "CompiledPolicy", "ReplayedList", "ima_from_text", "ima_judge", "ima_replay"]

Bytes: TypeAlias = bytes | memoryview
# One digest that a boot aggregate may have: its number of the bank, and the digest padded with zeros.
AGGREGATE_BYTES = 1 + lib.TCCP_DIGEST_BYTES_MAX
_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class ReplayedList:
    """What ``tccp_ima_replay`` found; see ``tccp_ima_entry`` and ``tccp_ima_replayed`` in csrc/tccp_ima.h.

    ``entries[0:count]`` are the C structures themselves, valid as long as this object lives.
    """

    __slots__ = ("consumed", "count", "entries", "matched", "pcr", "truncated")

    def __init__(self, entries: Any, count: int, replayed: Any, digest_bytes: int) -> None:
        self.entries = entries
        self.count = count
        self.consumed = int(replayed.consumed)
        self.matched = bool(replayed.matched)
        self.truncated = bool(replayed.truncated)
        self.pcr = bytes(ffi.buffer(replayed.pcr, digest_bytes))


def ima_replay(
    measurements: Bytes, *, column: int, bank: int, pcr: int, start: bytes, target: bytes | None
) -> ReplayedList:
    """Replay a binary list; see ``tccp_ima_replay``. The GIL is released meanwhile.

    Raises:
        ImaError: ``malformed`` or ``too_large``.
    """
    entries_max = min(len(measurements) // lib.TCCP_IMA_ENTRY_BYTES_MIN + 1, lib.TCCP_IMA_ENTRIES_MAX)
    entries = _new_uncleared("tccp_ima_entry[]", entries_max)
    count, replayed = ffi.new("size_t *"), ffi.new("tccp_ima_replayed *")
    status = lib.tccp_ima_replay(
        *(_pointer(measurements), len(measurements), column, bank, pcr),
        *(start, ffi.NULL if target is None else target, entries, entries_max, count, replayed),
    )
    check(status, ImaError, f"an IMA list of {len(measurements)} bytes")
    return ReplayedList(entries, int(count[0]), replayed, len(start))


def ima_from_text(text: Bytes) -> bytes:
    """The binary form of a list in ASCII; see ``tccp_ima_from_text``.

    Raises:
        ImaError: ``malformed`` or ``too_large``.
    """
    room = 2 * len(text) + 64
    made, length = _new_uncleared("uint8_t[]", room), ffi.new("size_t *")
    check(lib.tccp_ima_from_text(_pointer(text), len(text), made, room, length), ImaError, "an IMA list in ASCII")
    return bytes(ffi.buffer(made, length[0]))


class CompiledPolicy:
    """A compiled policy, ready to be asked by any number of threads; *file* is kept and must not change.

    Raises:
        ImaError: ``wrong_root``: *file* does not hash to *sha256*; ``malformed``, ``too_large``, ``unsupported``.
    """

    def __init__(self, file: Any, sha256: bytes) -> None:
        self._file = ffi.from_buffer(file)
        policy = ffi.new("tccp_ima_policy **")
        status = lib.tccp_ima_policy_open(self._file, len(self._file), sha256, policy)
        check(status, ImaError, "a compiled IMA policy")
        self.handle = ffi.gc(policy[0], lib.tccp_ima_policy_free)
        self.records = int(lib.tccp_ima_policy_records(self.handle))

    def find(self, digest_bank: int, digest: bytes, path: bytes) -> bool:
        """Whether *digest* is listed for *path*."""
        status = lib.tccp_ima_policy_find(self.handle, digest_bank, digest, path, len(path))
        if status == lib.TCCP_ERR_UNTRUSTED:
            return False
        check(status, ImaError)
        return True


def ima_judge(
    policy: CompiledPolicy,
    measurements: Bytes,
    replayed: ReplayedList,
    *,
    first_number: int,
    pcr: int,
    aggregates: bytes,
) -> tuple[bytes, int]:
    """A verdict for each entry, and how many of them refuse; see ``tccp_ima_judge``. The GIL is released meanwhile."""
    verdicts, refused = _new_uncleared("uint8_t[]", replayed.count + 1), ffi.new("size_t *")
    status = lib.tccp_ima_judge(
        *(policy.handle, _pointer(measurements), len(measurements), replayed.entries, replayed.count),
        *(first_number, pcr, aggregates, len(aggregates) // AGGREGATE_BYTES, verdicts, refused),
    )
    check(status, ImaError)
    return bytes(ffi.buffer(verdicts, replayed.count)), int(refused[0])


def _pointer(data: Bytes) -> Any:
    return data if isinstance(data, bytes) else ffi.from_buffer(data)
