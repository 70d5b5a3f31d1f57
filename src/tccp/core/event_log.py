"""Firmware event logs, parsed and replayed in C."""

from typing import Any

from tccp.core._lib import check, ffi, lib
from tccp.errors import EventLogError

__all__ = ["BANKS", "ParsedEventLog", "event_log_parse"]

# The TPM_ALG_ID of each bank, in the order in which the C core numbers them.
BANKS = (0x0004, 0x000B, 0x000C, 0x000D)
_SMALLEST_EVENT_BYTES = 32
# The core writes every event that it counts; clearing the room for the rest would cost more than parsing.
_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class ParsedEventLog:
    """What ``tccp_event_log_parse`` found; see ``tccp_event`` and ``tccp_event_log_info`` in csrc/tccp_event_log.h.

    ``info`` and ``events[0:event_count]`` are the C structures themselves, valid as long as this object lives.
    """

    __slots__ = ("event_count", "events", "info")

    def __init__(self, info: Any, events: Any, event_count: int) -> None:
        self.info = info
        self.events = events
        self.event_count = event_count

    def pcr(self, bank: int, index: int, digest_bytes: int) -> bytes:
        """The replayed value of a PCR; *bank* is an index into `BANKS`."""
        return bytes(ffi.buffer(self.info.pcrs[bank][index], digest_bytes))


def event_log_parse(log: bytes, banks_wanted: int) -> ParsedEventLog:
    """Parse and replay a firmware event log; see ``tccp_event_log_parse``.

    Args:
        banks_wanted: Bit i is set to replay bank ``BANKS[i]``.

    Raises:
        EventLogError: Too large, or no log at all. A damaged log is returned up to the damage: see ``info.ending``.
    """
    events_max = min(len(log) // _SMALLEST_EVENT_BYTES + 1, lib.TCCP_EVENT_LOG_EVENTS_MAX)
    events = _new_uncleared("tccp_event[]", events_max)
    info = ffi.new("tccp_event_log_info *")
    count = ffi.new("size_t *")
    status = lib.tccp_event_log_parse(log, len(log), banks_wanted, events, events_max, count, info)
    check(status, EventLogError, "" if status == lib.TCCP_OK else f"an event log of {len(log)} bytes")
    return ParsedEventLog(info, events, int(count[0]))
