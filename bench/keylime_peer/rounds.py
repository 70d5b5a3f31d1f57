"""How each script of this folder is asked: one JSON line with what it works on, then a line for every round.

It imports nothing but the standard library: it runs in Keylime's own environment.
"""

import json
import logging
import resource
import sys
import types
from collections.abc import Callable
from typing import Any

# Keylime imports this binding to check signed policies; it has no wheel, and nothing here needs it.
sys.modules["gpg"] = types.ModuleType("gpg")
logging.disable()


def given() -> Any:
    """What is worked on."""
    return json.loads(sys.stdin.readline())


def answer(works: dict[str, Callable[[], int]]) -> None:
    """Do the work that each line names, and print the seconds of processor time, its children's too, that one unit of
    it took. A work returns how many units it did."""
    for line in sys.stdin:
        work = works[json.loads(line)]
        before = _processor_s()
        units = work()
        print((_processor_s() - before) / units, flush=True)


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def refuse(failure: Any) -> None:
    """End when Keylime does not accept what it is given: its time would mean nothing."""
    if failure:
        raise SystemExit(f"keylime refuses: {[event.context for event in failure.events][:3]}")
