"""Runs in Keylime's own environment: firmware event logs through its parser, as in ``rounds.py``.

given: {name: base64 of the log, ...}
works: each name
"""

import rounds  # first: it prepares what Keylime imports
from keylime.mba.elparsing.tpm2_tools_elparser import bootlog_parse


def parse(log: str) -> int:
    """One log."""
    pcrs, _, _, failure = bootlog_parse(log, "sha256")
    rounds.refuse(failure)
    if not pcrs:
        raise SystemExit("keylime finds no PCRs")
    return 1


def main() -> None:
    """Answer until standard input ends."""
    rounds.answer({name: lambda log=log: parse(log) for name, log in rounds.given().items()})


if __name__ == "__main__":
    main()
