"""Runs in Keylime's own environment: quotes a second through ``Tpm.check_quote``, the median of some rounds.

python check_quote.py ROUNDS ROUND_S < {"ak": base64 of TPM2B_PUBLIC, "quotes": [{"nonce": ..., "quote": ...}]}
"""

import json
import logging
import statistics
import sys
import time
import types

# Keylime imports this binding to check signed policies; it has no wheel, and no quote needs it.
sys.modules["gpg"] = types.ModuleType("gpg")
logging.disable()

from keylime.mba import mba  # noqa: E402
from keylime.tpm.tpm_main import Tpm  # noqa: E402


def rate(given: dict[str, object], rounds: int, round_s: float, *, skip_pcr_check: bool) -> float:
    """Quotes a second, the median of the rounds."""
    tpm, rates = Tpm(), []
    for _ in range(rounds):
        done, start = 0, time.process_time()
        while time.process_time() - start < round_s:
            for quote in given["quotes"]:
                failure = tpm.check_quote(
                    None, quote["nonce"], None, quote["quote"], given["ak"], skip_pcr_check=skip_pcr_check
                )
                if failure:
                    raise SystemExit(f"keylime refuses: {[event.context for event in failure.events]}")
            done += len(given["quotes"])
        rates.append(done / (time.process_time() - start))
    return statistics.median(rates)


def main() -> None:
    """Print one JSON object."""
    rounds, round_s = int(sys.argv[1]), float(sys.argv[2])
    given = json.load(sys.stdin)
    mba.load_imports(skip_custom_policies=True)
    print(
        json.dumps(
            {
                "check_quote": rate(given, rounds, round_s, skip_pcr_check=False),
                "skip_pcr_check": rate(given, rounds, round_s, skip_pcr_check=True),
            }
        )
    )


if __name__ == "__main__":
    main()
