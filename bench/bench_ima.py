"""IMA lists and policies: replay and look-up, a whole attestation in which nothing is new, loading a large policy.

    pytest bench/bench_ima.py && python -m bench.report

The peer is Keylime 7.14.3 on the same list, policy and quote: ``process_measurement_list`` on the list in ASCII, and
the round of its verifier, which reads the policy anew each time. Ours reads the kernel's binary list, which is what a
node sends. The policy lists 50,000 files by path, and the list measures 20,000 of them.
"""

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.conftest import RESULTS, Section
from bench.keylime_peer import Keylime, Turns, by_turns
from bench.quotes import for_keylime
from tccp.attestation.ima import (
    ImaPolicy,
    ImaProgress,
    measurements_from_text,
    prove_measurements,
    replay_measurements,
)
from tccp.attestation.ima_rules import ImaRules, ListedDigest, compile_rules
from tccp.attestation.quote import AkKey, QuoteClaim, verify_quote
from tccp.mapped import map_file
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.forger import Attest, Forger, tpm2b
from tests.support.ima_lists import Entry, digest_field, field, replay_by_hand, written

LISTED, MEASURED, GROWN, LARGE = 50_000, 20_000, 500_000, 1_000_000
ROUNDS = 7
TIMES, ATTESTATIONS = 10, 1_000  # in a round beside Keylime's
FORGER = Forger("p256", "ecdsa", "sha256")
SELECTION = PcrSelection(PcrBank.SHA256, (*range(8), 10))


def digest_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def path_of(number: int) -> str:
    return f"/usr/lib/x86_64-linux-gnu/package-{number % 997}/file-{number}.so"


def entry_of(number: int) -> Entry:
    return Entry(b"ima-ng", digest_field(digest_of(number)) + field(path_of(number).encode() + b"\0"))


class Work(NamedTuple):
    """What both judge."""

    data: bytes
    text: str
    policy: ImaPolicy
    pcr10: bytes
    claim: QuoteClaim


def _quote(pcr10: bytes) -> QuoteClaim:
    nonce = hashlib.sha256(b"nonce").digest()
    values = {index: digest_of(index) for index in SELECTION.indexes} | {10: pcr10}
    pcrs = PcrValues(SELECTION, values)
    digest = hashlib.sha256(pcrs.concatenated).digest()
    selection = (int(SELECTION.bank), SELECTION.mask.to_bytes(3, "little"))
    attest = Attest(extra_data=nonce, selections=(selection,), pcr_digest=digest, clock_ms=1).encode()
    return QuoteClaim(attest, FORGER.sign(attest), pcrs, AkKey.from_tpm_public(FORGER.tpm_public()), nonce)


@pytest.fixture(scope="module")
def work() -> Work:
    entries = [entry_of(number) for number in range(MEASURED)]
    lines = [
        f"10 {hashlib.sha1(entry.hashed, usedforsecurity=False).hexdigest()} ima-ng "
        f"sha256:{digest_of(number).hex()} {path_of(number)}\n"
        for number, entry in enumerate(entries)
    ]
    listed = [ListedDigest(digest_of(number), path_of(number).encode()) for number in range(LISTED)]
    file = compile_rules(ImaRules(listed))
    pcr10 = replay_by_hand(entries)
    policy = ImaPolicy(file, hashlib.sha256(file).digest())
    return Work(written(entries), "".join(lines), policy, pcr10, _quote(pcr10))


@pytest.fixture(scope="module")
def section() -> Iterator[Section]:
    made = Section(
        "IMA",
        "`pytest bench/bench_ima.py`. One core, medians of rounds, each behind one of Keylime 7.14.3's; a policy of "
        "50,000 files by path, 20,000 entries. Bars: entries >= 20x, a whole attestation with nothing new >= 500x, "
        "1,000,000 digests loaded in < 100 ms from < 64 MiB.",
        ["work", "Keylime", "tccp", "ratio"],
    )
    yield made
    made.save()


@pytest.fixture(scope="module")
def keylime(work: Work) -> Iterator[Keylime]:
    policy = {
        "meta": {"version": 1, "generator": 0},
        "release": 0,
        "digests": {path_of(number): [digest_of(number).hex()] for number in range(LISTED)},
        "excludes": [],
        "keyrings": {},
        "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": None},
        "ima-buf": {},
        "verification-keys": "",
    }
    given = {
        "policy": json.dumps(policy),
        "list": work.text,
        "pcr10": work.pcr10.hex(),
        "ak": b64encode(tpm2b(FORGER.tpm_public())).decode(),
        **for_keylime(work.claim),
    }
    with Keylime(RESULTS, "process_ima.py", given) as peer:
        yield peer


def median(benchmark: Any, what: Callable[[], object], *, iterations: int = 3) -> float:
    benchmark.pedantic(what, rounds=ROUNDS, iterations=iterations, warmup_rounds=1)
    return float(benchmark.stats.stats.median)


@pytest.mark.benchmark(timer=time.process_time)
def test_replay_and_judge(benchmark: Any, work: Work, section: Section, keylime: Keylime) -> None:
    pcrs = PcrValues(PcrSelection(PcrBank.SHA256, (10,)), {10: work.pcr10})

    def judge() -> int:
        for _ in range(TIMES):
            accepted = work.policy.judge(prove_measurements(work.data, ImaProgress.start(), pcrs))
            assert accepted.progress.count == MEASURED
        return TIMES * MEASURED

    section.rows.append(_row("replay and judge, entries/s", by_turns(benchmark, judge, keylime, "entry")))


@pytest.mark.benchmark(timer=time.process_time)
def test_replay_and_judge_in_ascii(benchmark: Any, work: Work, section: Section, keylime: Keylime) -> None:
    pcrs = PcrValues(PcrSelection(PcrBank.SHA256, (10,)), {10: work.pcr10})
    text = work.text.encode()

    def judge() -> int:
        for _ in range(TIMES):
            work.policy.judge(prove_measurements(measurements_from_text(text), ImaProgress.start(), pcrs))
        return TIMES * MEASURED

    section.rows.append(_row("the same list in ASCII, entries/s", by_turns(benchmark, judge, keylime, "entry")))


@pytest.mark.benchmark(timer=time.process_time)
def test_an_attestation_with_nothing_new(benchmark: Any, work: Work, section: Section, keylime: Keylime) -> None:
    claim = work.claim
    progress = prove_measurements(work.data, ImaProgress.start(), claim.pcrs).progress

    def attest() -> int:
        for _ in range(ATTESTATIONS):
            quote = verify_quote(
                claim.attest, claim.signature, claim.pcrs, ak=claim.ak, qualifying_data=claim.qualifying_data
            )
            work.policy.judge(prove_measurements(b"", progress, quote.pcrs))
        return ATTESTATIONS

    turns = by_turns(benchmark, attest, keylime, "round")
    section.rows.append(_row("quote verified, nothing new in the list, attestations/s", turns))


@pytest.mark.benchmark(timer=time.process_time)
def test_a_list_that_has_grown_to_half_a_million(benchmark: Any, section: Section) -> None:
    """Only its new part costs anything: 100 entries behind 500,000."""
    data = written(entry_of(number) for number in range(GROWN + 100))
    old_bytes = len(written(entry_of(number) for number in range(GROWN)))
    _, old_pcr = replay_measurements(memoryview(data)[:old_bytes], ImaProgress.start())
    _, new_pcr = replay_measurements(data, ImaProgress.start())
    progress = ImaProgress(PcrBank.SHA256, GROWN, old_bytes, old_pcr)
    pcrs = PcrValues(PcrSelection(PcrBank.SHA256, (10,)), {10: new_pcr})

    def grow() -> None:
        assert len(prove_measurements(memoryview(data)[old_bytes:], progress, pcrs)) == 100

    micros = 1e6 * median(benchmark, grow, iterations=50)
    section.rows.append(["100 new entries behind 500,000, us", "-", f"{micros:,.0f}", "-"])


def test_load_a_million_digests(benchmark: Any, section: Section, tmp_path: Path) -> None:
    listed = [ListedDigest(digest_of(number), path_of(number).encode()) for number in range(LARGE)]
    file = compile_rules(ImaRules(listed))
    sha256, path = hashlib.sha256(file).digest(), tmp_path / "large.ima"
    path.write_bytes(file)
    size_mib = len(file) / (1 << 20)
    del file

    def load() -> None:
        policy = ImaPolicy(map_file(path, bytes_max=1 << 30), sha256)
        assert policy.lists(PcrBank.SHA256, digest_of(7), path_of(7).encode())

    millis = 1e3 * median(benchmark, load, iterations=1)
    section.rows.append(["load 1,000,000 digests, ms", "-", f"{millis:,.0f}", "-"])
    section.rows.append(["their size, MiB, shared by all who map it", "-", f"{size_mib:,.1f}", "-"])


def _row(work: str, turns: Turns) -> list[str]:
    assert turns.theirs_s is not None
    peer = 1 / turns.theirs_s
    return [
        work,
        f"{peer:,.1f}" if peer < 100 else f"{peer:,.0f}",
        f"{1 / turns.ours_s:,.0f}",
        f"{turns.ratio:,.1f}",
    ]
