"""Runs in Keylime's own environment: quotes through ``Tpm.check_quote``, as in ``rounds.py``.

given: {"ak": base64 of TPM2B_PUBLIC, "quotes": [{"nonce": ..., "quote": ...}, ...]}
works: "check_quote", and "skip_pcr_check", which leaves out what it does with PCR values behind the signature
"""

import rounds  # first: it prepares what Keylime imports
from keylime.mba import mba
from keylime.tpm.tpm_main import Tpm

TIMES = 20  # so many quotes that a round is long beside what it costs to begin one


def main() -> None:
    """Answer until standard input ends."""
    mba.load_imports(skip_custom_policies=True)
    given, tpm = rounds.given(), Tpm()

    def check(*, skip_pcr_check: bool) -> int:
        for _ in range(TIMES):
            for quote in given["quotes"]:
                rounds.refuse(
                    tpm.check_quote(
                        None, quote["nonce"], None, quote["quote"], given["ak"], skip_pcr_check=skip_pcr_check
                    )
                )
        return TIMES * len(given["quotes"])

    rounds.answer(
        {"check_quote": lambda: check(skip_pcr_check=False), "skip_pcr_check": lambda: check(skip_pcr_check=True)}
    )


if __name__ == "__main__":
    main()
