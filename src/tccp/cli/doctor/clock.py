"""Whether this machine knows what time it is: leases and certificates end by the clock."""

import ctypes
import time
from datetime import UTC, datetime
from typing import NamedTuple

from tccp.cli.doctor.finding import Finding, Status

AREA = "clock"
# Before this was written no clock can be right; after it, certificates of today's kind are over.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
MAX_ERROR_S = 1.0
SLEPT_S = 1.0
# <linux/timex.h>: the bit of `status` that says that nobody disciplines the clock.
STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex`` (adjtimex(2)); the rest is only room for the kernel to write into."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class ClockReading(NamedTuple):
    """What this machine's clocks say.

    Args:
        now: The system clock.
        synchronised: Whether the kernel believes that somebody keeps the clock right; None when it would not tell.
        error_max_s: How wrong the kernel thinks the clock can be at most.
        slept_s: How long the machine was suspended since it booted.
    """

    now: datetime
    synchronised: bool | None
    error_max_s: float
    slept_s: float


def read_clock() -> ClockReading:
    """Ask the kernel."""
    timex = _Timex(modes=0)
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return ClockReading(
        now=datetime.now(UTC),
        synchronised=None if answer < 0 else not timex.status & STA_UNSYNC,
        error_max_s=timex.maxerror / 1e6,
        # The two are read one after the other: without suspension they differ by that moment.
        slept_s=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)),
    )


def findings(reading: ClockReading) -> list[Finding]:
    """Judge a reading."""
    return [_year(reading.now), _synchronised(reading), _slept(reading.slept_s)]


def _year(now: datetime) -> Finding:
    found = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if EARLIEST <= now < LATEST:
        return Finding(AREA, "time", Status.OK, found)
    return Finding(
        AREA, "time", Status.FAIL, found, "Set the clock: with this one no certificate is valid (timedatectl set-time)."
    )


def _synchronised(reading: ClockReading) -> Finding:
    check = "synchronised"
    if reading.synchronised is None:
        return Finding(
            AREA, check, Status.WARN, "the kernel does not tell (adjtimex)", "Run tccp doctor outside the sandbox."
        )
    if not reading.synchronised:
        return Finding(
            AREA,
            check,
            Status.WARN,
            "nobody keeps this clock right",
            "Run chrony or systemd-timesyncd: leases end early or late by as much as the clock is wrong.",
        )
    found = f"kept by a time service, wrong by {reading.error_max_s:.3f} s at most"
    if reading.error_max_s > MAX_ERROR_S:
        return Finding(AREA, check, Status.WARN, found, "The time service lost its sources: look at its log.")
    return Finding(AREA, check, Status.OK, found)


def _slept(slept_s: float) -> Finding:
    if slept_s < SLEPT_S:
        return Finding(AREA, "suspended", Status.OK, "not suspended since boot")
    return Finding(
        AREA,
        "suspended",
        Status.WARN,
        f"suspended for {slept_s:.0f} s since boot",
        "Leases go on to age while a machine sleeps: do not let nodes and coordinators suspend.",
    )
