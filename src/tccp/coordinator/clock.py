"""Wall-clock time that never jumps: read once, then carried on by a clock that nobody can set.

Leases and log entries carry wall-clock times, which an administrator, or NTP, can set back and forth. Within one
run of the daemon time goes on at the pace of CLOCK_BOOTTIME, and a new run never starts before what the store
already holds: setting the host's clock back extends no lease.
"""

import datetime as dt
import time


class SteadyClock:
    """Unix time in milliseconds, monotonic within a run and across runs.

    Args:
        not_before_ms: The newest time that the store knows.
    """

    def __init__(self, *, not_before_ms: int = 0) -> None:
        self._offset_ms = max(int(time.time() * 1000), not_before_ms) - _boottime_ms()

    def now_ms(self) -> int:
        """The present time in Unix milliseconds."""
        return self._offset_ms + _boottime_ms()

    def now(self) -> dt.datetime:
        """The present time, aware, UTC."""
        return dt.datetime.fromtimestamp(self.now_ms() / 1000, tz=dt.UTC)

    def ahead_of_host_s(self) -> float:
        """How far this clock is ahead of the host's wall clock; large when somebody set that."""
        return self.now_ms() / 1000 - time.time()


def _boottime_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
