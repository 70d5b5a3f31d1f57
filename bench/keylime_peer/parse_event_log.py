"""Runs in Keylime's own environment: seconds that its parser takes for each event log, the median of some rounds.

python parse_event_log.py ROUNDS < {"name": base64 of the log, ...}
"""

import json
import logging
import statistics
import sys
import time
import types

# Keylime imports this binding to check signed policies; it has no wheel, and no log needs it.
sys.modules["gpg"] = types.ModuleType("gpg")
logging.disable()

from keylime.mba.elparsing.tpm2_tools_elparser import bootlog_parse  # noqa: E402


def main() -> None:
    """Print one JSON object: name -> seconds."""
    rounds = int(sys.argv[1])
    medians = {}
    for name, log in json.load(sys.stdin).items():
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            pcrs, _, _, failure = bootlog_parse(log, "sha256")
            times.append(time.perf_counter() - start)
            if failure or not pcrs:
                raise SystemExit(f"keylime refuses {name}")
        medians[name] = statistics.median(times)
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
