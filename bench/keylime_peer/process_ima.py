"""Runs in Keylime's own environment: entries a second of an IMA list by a runtime policy, and whole rounds a second in
which nothing is new: the policy read as its verifier does in each round, the quote checked, the list compared.

python process_ima.py ROUNDS < {"policy": JSON text, "list": ASCII text, "pcr10": hex, "ak", "nonce", "quote": ...}
"""

import json
import logging
import statistics
import sys
import time
import types

# Keylime imports this binding to check signed policies; it has no wheel, and nothing here needs it.
sys.modules["gpg"] = types.ModuleType("gpg")
logging.disable()

from keylime.agentstates import AgentAttestState  # noqa: E402
from keylime.common.algorithms import Hash  # noqa: E402
from keylime.ima import ima  # noqa: E402
from keylime.mba import mba  # noqa: E402
from keylime.tpm.tpm_main import Tpm  # noqa: E402


def refuse(failure: object) -> None:
    """End when Keylime does not accept what it is given: its time would mean nothing."""
    if failure:
        raise SystemExit(f"keylime refuses: {[event.context for event in failure.events][:3]}")  # type: ignore[attr-defined]


def entries_a_second(given: dict[str, str], rounds: int) -> float:
    """The median of the rounds."""
    policy, lines = json.loads(given["policy"]), given["list"].splitlines()
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        _, failure = ima.process_measurement_list(None, lines, policy, pcrval=given["pcr10"], hash_alg=Hash.SHA256)
        rates.append(len(lines) / (time.process_time() - start))
        refuse(failure)
    return statistics.median(rates)


def rounds_a_second(given: dict[str, str], rounds: int) -> float:
    """The median of the rounds, after one that has taken the whole list."""
    tpm, state = Tpm(), AgentAttestState("node")

    def attest(measurements: str) -> None:
        policy = ima.deserialize_runtime_policy(given["policy"])
        refuse(
            tpm.check_quote(
                state, given["nonce"], None, given["quote"], given["ak"], {}, measurements, policy, Hash.SHA256
            )
        )

    attest(given["list"])
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        attest("")
        rates.append(1 / (time.process_time() - start))
    return statistics.median(rates)


def main() -> None:
    """Print one JSON object."""
    rounds, given = int(sys.argv[1]), json.load(sys.stdin)
    mba.load_imports(skip_custom_policies=True)
    print(json.dumps({"entries": entries_a_second(given, rounds), "rounds": rounds_a_second(given, rounds)}))


if __name__ == "__main__":
    main()
