"""Runs in Keylime's own environment: entries of an IMA list by a runtime policy, and whole rounds in which nothing is
new: the policy read as its verifier does in each round, the quote checked, the list compared. As in ``rounds.py``.

    given: {"policy": JSON text, "list": ASCII text, "pcr10": hex, "ak", "nonce", "quote": ...}
    works: "entry", "round"
"""

import json

import rounds  # first: it prepares what Keylime imports
from keylime.agentstates import AgentAttestState
from keylime.common.algorithms import Hash
from keylime.ima import ima
from keylime.mba import mba
from keylime.tpm.tpm_main import Tpm


def main() -> None:
    """Answer until standard input ends."""
    mba.load_imports(skip_custom_policies=True)
    given, tpm, state = rounds.given(), Tpm(), AgentAttestState("node")
    policy, lines = json.loads(given["policy"]), given["list"].splitlines()

    def process() -> int:
        _, failure = ima.process_measurement_list(None, lines, policy, pcrval=given["pcr10"], hash_alg=Hash.SHA256)
        rounds.refuse(failure)
        return len(lines)

    def attest(measurements: str) -> int:
        fresh = ima.deserialize_runtime_policy(given["policy"])
        rounds.refuse(
            tpm.check_quote(
                state, given["nonce"], None, given["quote"], given["ak"], {}, measurements, fresh, Hash.SHA256
            )
        )
        return 1

    attest(given["list"])  # taken once; nothing is new from then on
    rounds.answer({"entry": process, "round": lambda: attest("")})


if __name__ == "__main__":
    main()
