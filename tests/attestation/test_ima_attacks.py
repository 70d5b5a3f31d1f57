"""What a host that writes its own list can try. Beside a rule stands what passes without it."""

import hashlib
from collections import Counter

import pytest

from tccp.attestation.ima import (
    SHOWN_PATH_BYTES,
    AcceptedMeasurements,
    ImaProgress,
    Verdict,
    boot_aggregates,
    describe_entry,
    measurements_from_text,
    prove_measurements,
    replay_measurements,
)
from tccp.attestation.ima_rules import ImaRules, ListedDigest
from tccp.errors import ImaError, PolicyError
from tccp.model import PcrSelection, PcrValues
from tests.support.ima_lists import (
    AGGREGATE,
    SHA256,
    Entry,
    buffer,
    compiled,
    digest_field,
    field,
    ng,
    quoted,
    sha256,
    signed,
    written,
)

GOOD, EVIL = ng(b"good", b"/usr/bin/good"), ng(b"rootkit", b"/usr/bin/rootkit")
OTHER = ng(b"other", b"/usr/bin/other")
HONEST = [AGGREGATE, GOOD, EVIL, OTHER]
POLICY = compiled(ImaRules(digests=[ListedDigest(sha256(b"good")), ListedDigest(sha256(b"other"))]))


def refused(entries: list[Entry], *measured: Entry) -> str:
    """Why a list of *entries* is refused when *measured* was."""
    with pytest.raises((ImaError, PolicyError)) as caught:
        POLICY.judge(prove_measurements(written(entries), ImaProgress.start(), quoted(measured)))
    return caught.value.reason


def test_the_control_a_list_as_it_was_measured_is_accepted() -> None:
    entries = [AGGREGATE, GOOD, OTHER]
    accepted = POLICY.judge(prove_measurements(written(entries), ImaProgress.start(), quoted(entries)))

    assert accepted.verdicts == {Verdict.BOOT_AGGREGATE: 1, Verdict.LISTED: 2}
    assert accepted.progress.count == 3


@pytest.mark.parametrize(
    "shown",
    [
        [AGGREGATE, GOOD, OTHER],
        [AGGREGATE, GOOD, GOOD, OTHER],
        [AGGREGATE, GOOD, EVIL._replace(pcr=11), OTHER],
        [AGGREGATE, GOOD, EVIL._replace(is_violation=True), OTHER],
        [AGGREGATE, EVIL, GOOD, OTHER],
        [OTHER],
        [],
    ],
    ids=["left out", "replaced", "moved to another PCR", "called a violation", "reordered", "only the last", "nothing"],
)
def test_an_entry_cannot_be_left_out_or_altered(shown: list[Entry]) -> None:
    assert refused(shown, *HONEST) == "ima_list_mismatch"


def test_no_bit_that_counts_can_be_changed() -> None:
    entries = [GOOD, OTHER]
    data = written(entries)
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1
        try:
            proved = prove_measurements(bytes(altered), ImaProgress.start(), quoted(entries))
        except ImaError:
            continue
        # The printed template digest and the template's name are no part of what is hashed.
        at = position % len(GOOD.binary) if position < len(GOOD.binary) else position - len(GOOD.binary)
        assert 4 <= at < 24 or 28 <= at < 34
        assert [entry.digest for entry in proved.entries()] == [sha256(b"good"), sha256(b"other")] or any(
            Verdict(number).refuses for number in POLICY.verdicts(proved)
        )


def test_the_evil_entry_is_refused_by_name() -> None:
    with pytest.raises(PolicyError, match=r"entry 2: /usr/bin/rootkit sha256:[0-9a-f]{64}: not_listed") as caught:
        POLICY.judge(prove_measurements(written(HONEST), ImaProgress.start(), quoted(HONEST)))
    assert caught.value.hint


@pytest.mark.parametrize(("count", "more"), [(1, ""), (5, ""), (6, "; and 1 more"), (9, "; and 4 more")])
def test_the_first_entries_that_are_refused_are_told_and_how_many_more_there_are(count: int, more: str) -> None:
    bad = [ng(b"%d" % number, b"/bad/%d" % number) for number in range(count)]
    entries = [AGGREGATE, *bad]
    with pytest.raises(PolicyError) as caught:
        POLICY.judge(prove_measurements(written(entries), ImaProgress.start(), quoted(entries)))

    told = [
        f"entry {number + 1}: /bad/{number} sha256:{sha256(b'%d' % number).hex()}: not_listed"
        for number in range(count)
    ]
    assert caught.value.detail == "; ".join(told[:5]) + more


def test_an_entry_without_a_digest_is_told_without_one() -> None:
    entries = [AGGREGATE, Entry(b"unknown", field(b"x"))]
    measurements, _ = replay_measurements(written(entries), ImaProgress.start())

    told = describe_entry(measurements.entry(1), Verdict.UNKNOWN_TEMPLATE)
    assert told == "entry 1: : unknown_template"


def test_a_path_without_an_end_fills_no_log() -> None:
    """Who may extend PCR 10 measures what he likes, under a name as long as he likes."""
    entries = [AGGREGATE, *(ng(b"%d" % number, b"/" + b"\xff" * 500_000) for number in range(3))]
    proved = prove_measurements(written(entries), ImaProgress.start(), quoted(entries))

    with pytest.raises(PolicyError, match="ima_entry_refused") as caught:
        compiled(ImaRules()).judge(proved)
    assert len(caught.value.detail) < 3 * (4 * SHOWN_PATH_BYTES + 150)


def test_progress_that_was_not_earned_leads_nowhere() -> None:
    invented = ImaProgress(SHA256, 3, 0, sha256(b"somewhere else"))

    with pytest.raises(ImaError, match="ima_list_mismatch"):
        prove_measurements(written(HONEST), invented, quoted(HONEST))


def test_a_list_of_an_earlier_boot_leads_nowhere() -> None:
    accepted = prove_measurements(written([AGGREGATE, GOOD]), ImaProgress.start(), quoted([AGGREGATE, GOOD])).progress

    # After a reboot PCR 10 begins anew, and so must the progress that a verifier keeps.
    with pytest.raises(ImaError, match="ima_list_mismatch"):
        prove_measurements(written([AGGREGATE]), accepted, quoted([AGGREGATE]))
    assert len(prove_measurements(written([AGGREGATE]), ImaProgress.start(), quoted([AGGREGATE]))) == 1


def test_a_violation_proves_nothing_of_what_it_names() -> None:
    named = ng(b"", b"/var/log/harmless", is_violation=True)
    evil = ng(b"", b"/usr/bin/sshd", is_violation=True)
    shown = prove_measurements(written([AGGREGATE, named]), ImaProgress.start(), quoted([AGGREGATE, evil]))

    assert shown.entry(1).path == b"/var/log/harmless"  # the control: the lie is proved
    assert POLICY.verdicts(shown)[1] == Verdict.VIOLATION
    # Which is why no rule may allow violations of some paths only: it is all or none.
    assert compiled(ImaRules(allow_violations=True)).verdicts(shown)[1] == Verdict.VIOLATION_ALLOWED
    assert compiled(ImaRules(excludes=["/var/log/*"])).verdicts(shown)[1] == Verdict.VIOLATION


def test_the_template_is_no_part_of_what_is_hashed_and_gains_nothing() -> None:
    content = b"#!/bin/sh\nrm -rf /\n"
    evil = signed(content, b"/usr/bin/evil", content)  # a file that bears itself as its signature
    as_buffer = Entry(b"ima-buf", evil.data)
    shown = prove_measurements(written([AGGREGATE, as_buffer]), ImaProgress.start(), quoted([AGGREGATE, evil]))

    assert shown.entry(1).template.name == "IMA_BUF"  # the control: the lie is proved
    assert POLICY.verdicts(shown)[1] == Verdict.BUFFER_NOT_LISTED
    assert compiled(ImaRules(buffers=["*"])).verdicts(shown)[1] == Verdict.BUFFER_NOT_LISTED


def test_fields_that_are_not_what_the_template_promises_are_unknown() -> None:
    odd = [
        Entry(b"ima-ng", digest_field(sha256(b"good"))),
        Entry(b"ima-ng", digest_field(sha256(b"good")) + field(b"/no/end")),
        Entry(b"ima-ng", digest_field(sha256(b"good")) + field(b"/usr/bin/good\0/usr/bin/evil\0")),
        Entry(b"ima-ng", digest_field(sha256(b"good")[:-1]) + field(b"/short\0")),
        Entry(b"ima-ng", digest_field(sha256(b"good")) + field(b"/more\0") + b"\0"),
        Entry(b"ima-sig", digest_field(sha256(b"good")) + field(b"/less\0")),
        Entry(b"ima-xyz", digest_field(sha256(b"good")) + field(b"/usr/bin/good\0")),
    ]
    proved = prove_measurements(written([AGGREGATE, *odd]), ImaProgress.start(), quoted([AGGREGATE, *odd]))

    assert set(POLICY.verdicts(proved)[1:]) == {Verdict.UNKNOWN_TEMPLATE}


def test_a_weak_digest_is_never_listed() -> None:
    weak = [ng(b"good", b"/usr/bin/good", name="sha1"), ng(b"good", b"/usr/bin/good", name="md5")]
    proved = prove_measurements(written([AGGREGATE, *weak]), ImaProgress.start(), quoted([AGGREGATE, *weak]))

    assert set(POLICY.verdicts(proved)[1:]) == {Verdict.WEAK_DIGEST}


def test_a_boot_aggregate_stands_first_or_is_of_the_quoted_boot() -> None:
    boot = PcrValues(PcrSelection.of(SHA256, range(10)), {index: bytes([index]) * 32 for index in range(10)})
    digest = hashlib.sha256(boot.concatenated).digest()
    right = Entry(b"ima-ng", digest_field(digest) + field(b"boot_aggregate\0"))
    entries = [AGGREGATE, GOOD, AGGREGATE, right]
    proved = prove_measurements(written(entries), ImaProgress.start(), quoted(entries))

    blind = POLICY.verdicts(proved)
    seeing = POLICY.verdicts(proved, b"".join(boot_aggregates(boot)))

    assert list(blind) == [Verdict.BOOT_AGGREGATE, Verdict.LISTED, Verdict.WRONG_AGGREGATE, Verdict.WRONG_AGGREGATE]
    assert list(seeing) == [Verdict.WRONG_AGGREGATE, Verdict.LISTED, Verdict.WRONG_AGGREGATE, Verdict.BOOT_AGGREGATE]
    with pytest.raises(PolicyError, match="wrong_aggregate"):
        POLICY.judge(proved, boot)


def test_a_buffer_must_be_the_one_that_was_measured() -> None:
    honest = buffer(b"ro lockdown=integrity", b"kexec-cmdline")
    altered = Entry(b"ima-buf", honest.data.replace(b"integrity", b"nothing!!"))
    listed = ImaRules([ListedDigest(sha256(b"ro lockdown=integrity"), b"buffer:kexec-cmdline")])
    entries = [AGGREGATE, honest, altered]
    proved = prove_measurements(written(entries), ImaProgress.start(), quoted(entries))

    assert list(compiled(listed).verdicts(proved)[1:]) == [Verdict.BUFFER, Verdict.BUFFER_ALTERED]
    assert list(compiled(ImaRules(buffers=["kexec-*"])).verdicts(proved)[1:]) == [
        Verdict.BUFFER,
        Verdict.BUFFER_ALTERED,
    ]
    assert POLICY.verdicts(proved)[1] == Verdict.BUFFER_NOT_LISTED


def test_a_path_with_a_line_end_forges_no_second_entry_in_ascii() -> None:
    column = b"01" * 20
    name = b"/tmp/x\n10 " + column + b" ima-ng sha256:" + sha256(b"good").hex().encode() + b" /usr/bin/good"
    evil = ng(b"rootkit", name)
    text = b"10 " + column + b" ima-ng sha256:" + sha256(b"rootkit").hex().encode() + b" " + name + b"\n"

    measurements, pcr = replay_measurements(measurements_from_text(text), ImaProgress.start())

    assert len(measurements) == 2  # the control: it looks like two
    assert pcr != quoted([evil]).values[10]  # and leads to no quoted value


def test_nobody_but_a_policy_accepts_measurements() -> None:
    with pytest.raises(TypeError):
        AcceptedMeasurements(ImaProgress.start(), bytes(32), Counter(), object())
