"""What the doctor says about one thing."""

import enum
from typing import NamedTuple


class Status(enum.StrEnum):
    """How bad it is; ordered from best to worst."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line of the doctor's report.

    Args:
        area: ``tpm``, ``libraries``, ``cpu``, ``permissions``, ``configuration``, ``clock`` or ``vms``.
        check: What was looked at, in snake_case: stable, for programs.
        status: Whether tccp can work with it.
        found: What was found.
        mend: What to do about it, a full sentence; empty when nothing need be done.
    """

    area: str
    check: str
    status: Status
    found: str
    mend: str = ""


def worst(findings: list[Finding]) -> Status:
    """The verdict over all findings."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)
