"""A boot that a policy has judged is known again by the same policy and the same values, and by nothing else."""

import hashlib
from dataclasses import replace

import pytest

from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.boot_verdict import (
    WARNING_CHARS_MAX,
    WARNINGS_MAX,
    JudgedBoot,
    boot_sha256,
    judge_again,
    remember_boot,
)
from tccp.attestation.ima import ImaProgress, prove_measurements
from tccp.attestation.ima_rules import ImaRules
from tccp.attestation.policy import TrustedPlatform
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import PolicyError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.boots import HONEST, POLICY, Step, judged, log_of, policy, quote_of
from tests.support.ima_lists import AGGREGATE, compiled, quoted, written

PATCHED = [*HONEST, Step(4, 0x0000000D, b"a boot that went on")]


def test_the_same_boot_is_known_again_and_trusted_as_before() -> None:
    platform = judged(HONEST)

    again = judge_again(policy(), quote_of(HONEST), remember_boot(policy(), platform), None)

    assert isinstance(again, TrustedPlatform)
    assert (again.policy_name, again.policy_version, again.warnings) == ("tvmm", 2, platform.warnings)


def test_it_is_this_quote_that_is_trusted_with_the_warnings_of_then() -> None:
    rules = policy(POLICY.replace('[drivers]\nmode = "enforce"', '[drivers]\nmode = "warn"'))
    boot = [*HONEST, Step(2, 0x80000004, b"card", b"option ROM")]
    quote = quote_of(boot, rules)

    again = judge_again(rules, quote, remember_boot(rules, judged(boot, rules=rules)), None)

    assert again is not None
    assert (again.quote is quote, len(again.warnings)) == (True, 1)


def test_measurements_are_asked_for_although_the_boot_is_known() -> None:
    files = compiled(ImaRules())
    rules = policy(f'{POLICY}\n[ima]\nsha256 = "{files.sha256.hex()}"\n')
    plain = quote_of(HONEST)
    values = dict(plain.pcrs.values) | {10: quoted([AGGREGATE]).values[10]}
    quote = object.__new__(VerifiedQuote)
    object.__setattr__(quote, "pcrs", PcrValues(rules.selection, values))
    accepted = files.judge(prove_measurements(written([AGGREGATE]), ImaProgress.start(), quote.pcrs))
    known = remember_boot(rules, judge_boot(rules, quote, log_of(HONEST), accepted))

    assert judge_again(rules, quote, known, accepted) is not None
    with pytest.raises(PolicyError, match="ima_not_judged"):
        judge_again(rules, quote, known, None)
    object.__setattr__(quote, "pcrs", PcrValues(rules.selection, values | {10: bytes(32)}))
    with pytest.raises(PolicyError, match="ima_not_judged"):
        judge_again(rules, quote, known, accepted)


def test_a_boot_that_was_never_judged_is_not_known() -> None:
    assert judge_again(policy(), quote_of(HONEST), None, None) is None


def test_another_value_of_any_pcr_is_another_boot() -> None:
    remembered = remember_boot(policy(), judged(HONEST))

    assert judge_again(policy(), quote_of(PATCHED), remembered, None) is None


def test_another_policy_judges_anew_though_it_has_the_same_name() -> None:
    remembered = remember_boot(policy(), judged(HONEST))
    edited = policy(POLICY.replace('"debug"', '"debug", "single"'))

    assert judge_again(edited, quote_of(HONEST), remembered, None) is None


def test_warnings_are_kept_as_far_as_there_is_room() -> None:
    platform = judged(HONEST)
    object.__setattr__(platform, "warnings", ("x" * (WARNING_CHARS_MAX + 1),) * (WARNINGS_MAX + 1))

    kept = remember_boot(policy(), platform).warnings

    assert (len(kept), len(kept[0])) == (WARNINGS_MAX, WARNING_CHARS_MAX)


def test_what_names_a_boot_is_all_of_it_but_what_the_running_system_measures() -> None:
    """A database of verdicts outlives the program: what names a boot in it may not change by chance."""
    values = {4: b"four" * 8, 10: b"ten." * 8, 11: b"more" * 8}
    pcrs = PcrValues(PcrSelection.of(PcrBank.SHA256, values), values)
    named = hashlib.sha256(b"\x00\x0b" + b"\x04" + values[4] + b"\x0b" + values[11]).digest()

    assert boot_sha256(pcrs) == named


def test_nobody_else_makes_one() -> None:
    remembered = remember_boot(policy(), judged(HONEST))

    with pytest.raises(TypeError, match="remember_boot only"):
        JudgedBoot(bytes(32), bytes(32), (), object())
    with pytest.raises(TypeError, match="remember_boot only"):
        replace(remembered, _token=None)
