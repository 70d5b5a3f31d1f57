"""Quotes a second on one core: in C beside libcrypto alone, through Python beside Keylime.

    pytest bench/bench_quote.py && python -m bench.report

libcrypto's number is `EVP_PKEY_verify` on a ready digest with a ready context: no hashing, no parsing, no PCRs.
Keylime's is `check_quote` with an empty policy, and again with `skip_pcr_check`, which leaves out what it does with the
PCR values after the quote was verified.
"""

import json
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from bench.conftest import RESULTS, Section
from bench.keylime_peer import Keylime, by_turns
from bench.quotes import FORGERS, claims, for_bench_quote, for_keylime
from tccp.attestation.quote import QuoteClaim, verify_quote, verify_quotes
from tests.support.forger import tpm2b

QUOTES = 256
TIMES = 8  # that many quotes are verified in a round through Python
ROUNDS = 7
IN_C = Section(
    "Quotes in C",
    "Quotes a second on one core, the median of seven rounds, by turns with libcrypto in one process. In brackets: "
    "the ratio to libcrypto alone (`EVP_PKEY_verify` on a ready digest; ours hashes, parses and compares PCRs too). "
    "Bars: single >= 0.9, batch >= 3 with AVX-512 IFMA (eight lanes), >= 0.9 without.",
    ["key", "libcrypto", "single", "batch, lanes", "batch, no lanes"],
)
IN_PYTHON = Section(
    "Quotes through Python",
    "Quotes a second on one core through `verify_quote` and `verify_quotes` (256 at once), medians of rounds, each "
    "behind one of Keylime 7.14.3's `check_quote` with an empty policy. In brackets: the median ratio of two such "
    "rounds; beside it, what Keylime reaches with `skip_pcr_check`. Bars: >= 6 for RSA single, >= 3 for P-256 single, "
    ">= 8 for P-256 in batches.",
    ["key", "Keylime", "Keylime, skip_pcr_check", "single", "batch"],
)


@pytest.fixture(scope="module", params=FORGERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(kind: str) -> list[QuoteClaim]:
    return claims(FORGERS[kind], QUOTES)


@pytest.fixture(scope="module")
def rates(kind: str) -> Iterator[dict[str, float]]:
    """What the tests of one kind find; a row of each table at the end."""
    found: dict[str, float] = {}
    yield found
    if {"libcrypto", "batch", "plain batch"} <= found.keys():
        peer = found["libcrypto"]
        IN_C.rows.append([kind, f"{peer:,.0f}", *(_rate(found[name], peer) for name in ("single", "batch"))])
        IN_C.rows[-1].append(_rate(found["plain batch"], found["plain libcrypto"]))
        IN_C.save()


class InPython(NamedTuple):
    """The peer, and what the tests of one kind of key find."""

    keylime: Keylime | None
    cells: dict[str, str]


@pytest.fixture(scope="module")
def in_python(kind: str, made: list[QuoteClaim]) -> Iterator[InPython]:
    cells = {"keylime": "cannot", "skipping": "cannot"}
    if "RSAPSS" in kind:
        yield InPython(None, cells)
    else:
        ak = b64encode(tpm2b(FORGERS[kind].tpm_public())).decode()
        given = {"ak": ak, "quotes": [for_keylime(claim) for claim in made[:64]]}
        with Keylime(RESULTS, "check_quote.py", given) as keylime:
            cells["skipping"] = f"{1 / median(keylime.round('skip_pcr_check') for _ in range(ROUNDS)):,.0f}"
            yield InPython(keylime, cells)
    if {"single", "batch"} <= cells.keys():
        IN_PYTHON.rows.append([kind, *(cells[name] for name in ("keylime", "skipping", "single", "batch"))])
        IN_PYTHON.save()


def _rate(rate: float, peer: float) -> str:
    return f"{rate:,.0f} ({rate / peer:.2f})" if peer else f"{rate:,.0f}"


def test_in_c(made: list[QuoteClaim], rates: dict[str, float], repository: Path) -> None:
    programs = {"": "build/native/bench/bench_quote", "plain ": "build/native/bench/plain_bench_quote"}
    subprocess.run(["make", "--silent", *programs.values()], cwd=repository, check=True)
    for prefix, program in programs.items():
        command: list[str | Path] = [repository / program, str(ROUNDS), "200"]
        printed = subprocess.run(command, input=for_bench_quote(made), capture_output=True, check=True).stdout
        rates.update({prefix + name: rate for name, rate in json.loads(printed).items()})

    print({name: f"{rate:,.0f}" for name, rate in rates.items()})


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("way", ["single", "batch"])
def test_through_python(benchmark: Any, way: str, made: list[QuoteClaim], in_python: InPython) -> None:
    def work() -> int:
        for _ in range(TIMES):
            if way == "batch":
                verify_quotes(made)
                continue
            for claim in made:
                verify_quote(
                    claim.attest, claim.signature, claim.pcrs, ak=claim.ak, qualifying_data=claim.qualifying_data
                )
        return TIMES * len(made)

    turns = by_turns(benchmark, work, in_python.keylime, "check_quote")
    rate = f"{1 / turns.ours_s:,.0f}"
    in_python.cells[way] = rate if turns.ratio is None else f"{rate} ({turns.ratio:.2f})"
    if turns.theirs_s is not None:
        in_python.cells["keylime"] = f"{1 / turns.theirs_s:,.0f}"
