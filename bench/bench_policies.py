"""What a verdict costs the coordinator beside the quote: by PCR values, by a measured boot, by what a host has run.

pytest bench/bench_policies.py && python -m bench.report
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.conftest import Section
from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.boot_policy import BootPolicy, parse_boot_policy
from tccp.attestation.boot_verdict import remember_boot
from tccp.attestation.ima import AcceptedMeasurements, ImaPolicy, ImaProgress, prove_measurements
from tccp.attestation.ima_memory import keep_progress, recall_progress
from tccp.attestation.policy import parse_policy
from tccp.attestation.quote import AkKey, VerifiedQuote, verify_quote
from tccp.coordinator.examination import KnownBoot, judge_known
from tccp.model import PcrSelection, PcrValues
from tests.support.boots import recorded
from tests.support.forger import Attest, Forger
from tests.support.ima_lists import replay_by_hand, written
from tests.support.measured_host import BOOTED, boot_policy, ima_policy

FORGER = Forger("p256", "ecdsa", "sha256")
NONCE, KEY = bytes(range(32)), b"\x01" * 32
ROUNDS = 7
pytestmark = pytest.mark.benchmark(timer=time.process_time)


class Host:
    """A host that has booted as recorded, and what a policy has accepted of it."""

    def __init__(self, folder: Path) -> None:
        ima_sha256 = ima_policy(folder)
        self.policy: BootPolicy = parse_boot_policy(boot_policy(ima=ima_sha256))
        self.log, pcrs = recorded("direct")
        self.quote = _quote(self.policy.selection, {**pcrs.values, 10: replay_by_hand(BOOTED)})
        compiled = ImaPolicy(next(folder.glob("*.ima")).read_bytes(), ima_sha256)
        proved = prove_measurements(written(BOOTED), ImaProgress.start(), self.quote.pcrs)
        self.accepted: AcceptedMeasurements = compiled.judge(proved)

    def judge(self) -> KnownBoot:
        """What is remembered once the log was judged."""
        platform = judge_boot(self.policy, self.quote, self.log, self.accepted)
        return KnownBoot(remember_boot(self.policy, platform), self.accepted)


def _quote(selection: PcrSelection, values: dict[int, bytes]) -> VerifiedQuote:
    pcrs = PcrValues(selection, {index: values[index] for index in selection.indexes})
    digest = hashlib.sha256(pcrs.concatenated).digest()
    selections = ((int(selection.bank), selection.mask.to_bytes(3, "little")),)
    attest = Attest(extra_data=NONCE, selections=selections, pcr_digest=digest, clock_ms=1).encode()
    ak = AkKey.from_tpm_public(FORGER.tpm_public())
    return verify_quote(attest, FORGER.sign(attest), pcrs, ak=ak, qualifying_data=NONCE)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("ima"))


@pytest.fixture(scope="module")
def section() -> Iterator[Section]:
    made = Section(
        "Verdicts",
        f"`pytest bench/bench_policies.py`. One core, CPU time, medians of {ROUNDS} rounds, beside the verification "
        "of the quote: what a renewal costs by the policy of its node.",
        ["verdict", "us"],
    )
    yield made
    made.save()


def _take(benchmark: Any, section: Section, name: str, what: Callable[[], object], *, iterations: int) -> None:
    benchmark.pedantic(what, rounds=ROUNDS, iterations=iterations, warmup_rounds=1)
    section.rows.append([name, f"{1e6 * float(benchmark.stats.stats.median):,.1f}"])


def test_by_pcr_values(benchmark: Any, host: Host, section: Section) -> None:
    values = host.quote.pcrs.values
    listed = "\n".join(f'{index} = "{values[index].hex()}"' for index in (0, 4, 7))
    policy = parse_policy(f'name = "tvmm"\nversion = 1\n[pcrs]\n{listed}\n'.encode())
    quote, known = host.quote.of(policy.selection), KnownBoot()

    _take(benchmark, section, "PCR values", lambda: judge_known(policy, quote, known), iterations=1_000)


def test_by_a_measured_boot_and_ima_with_nothing_new(benchmark: Any, host: Host, section: Section) -> None:
    known = host.judge()
    assert judge_known(host.policy, host.quote, known) is not None

    name = "measured boot and IMA, nothing new"
    _take(benchmark, section, name, lambda: judge_known(host.policy, host.quote, known), iterations=1_000)


def test_by_a_measured_boot_that_is_seen_for_the_first_time(benchmark: Any, host: Host, section: Section) -> None:
    name = f"measured boot by its log of {len(host.log):,} bytes, once a boot"
    _take(benchmark, section, name, host.judge, iterations=20)


def test_what_is_remembered_of_measurements(benchmark: Any, host: Host, section: Section) -> None:
    def keep_and_recall() -> None:
        kept = keep_progress(host.quote, host.accepted, KEY)
        assert recall_progress(kept, host.quote, host.accepted.policy_sha256, KEY) == host.accepted.progress

    name = "progress of a list kept, and recalled after a restart"
    _take(benchmark, section, name, keep_and_recall, iterations=1_000)


def test_the_part_of_a_quote_that_a_version_in_the_shadow_sees(benchmark: Any, host: Host, section: Section) -> None:
    selection = PcrSelection(host.policy.bank, (0, 4, 7))
    _take(benchmark, section, "a part of a shared quote", lambda: host.quote.of(selection), iterations=1_000)
