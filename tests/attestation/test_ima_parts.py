"""A list in parts: accepted as if it had come whole, whatever the cuts; and no part twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation import ima_parts
from tccp.attestation.ima import AcceptedMeasurements, ImaPolicy, ImaProgress
from tccp.attestation.ima_parts import ListInParts
from tccp.attestation.ima_rules import ImaRules, ListedDigest
from tccp.errors import ImaError, PolicyError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.ima_lists import AGGREGATE, Entry, compiled, ng, quoted, sha256, written

FILES = [ng(bytes([number]), b"/usr/bin/%d" % number) for number in range(12)]
LIST = [AGGREGATE, *FILES]
EVIL = ng(b"evil", b"/usr/bin/evil")


@pytest.fixture(scope="module")
def policy() -> ImaPolicy:
    return compiled(ImaRules([ListedDigest(sha256(bytes([number]))) for number in range(12)]))


def taken(policy: ImaPolicy, shown: bytes, measured: list[Entry], sizes: list[int]) -> AcceptedMeasurements:
    """What comes of a list that is shown in parts of these sizes, the last one again and again."""
    parts = ListInParts(policy, ImaProgress.start(), quoted(measured))
    while True:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        accepted = parts.take(shown[parts.offset : parts.offset + size])
        if accepted is not None:
            return accepted


LONGEST = max(len(entry.binary) for entry in LIST)


@given(sizes=st.lists(st.integers(LONGEST, 1000), min_size=1), behind=st.integers(0, 5))
def test_however_a_list_is_cut_it_is_accepted_up_to_the_quoted_value(
    policy: ImaPolicy, sizes: list[int], behind: int
) -> None:
    measured = LIST[: len(LIST) - behind]
    accepted = taken(policy, written([*LIST, EVIL]), measured, sizes)

    assert accepted.progress.count == len(measured)
    assert accepted.progress.consumed_bytes == len(written(measured))


@given(sizes=st.lists(st.integers(LONGEST, 1000), min_size=1), at=st.integers(1, len(LIST)))
def test_an_entry_that_is_not_listed_is_found_in_whatever_part_it_comes(
    policy: ImaPolicy, sizes: list[int], at: int
) -> None:
    entries = [*LIST[:at], EVIL, *LIST[at:]]

    with pytest.raises(PolicyError, match=f"entry {at}: /usr/bin/evil"):
        taken(policy, written(entries), entries, sizes)


@given(sizes=st.lists(st.integers(LONGEST, 1000), min_size=1), at=st.integers(0, len(LIST) - 1))
def test_a_list_without_one_of_its_entries_never_leads_there(policy: ImaPolicy, sizes: list[int], at: int) -> None:
    with pytest.raises(ImaError, match="ima_list_mismatch"):
        taken(policy, written([*LIST[:at], *LIST[at + 1 :]]), LIST, sizes)


def test_a_host_that_has_measured_nothing_since_needs_to_show_nothing(policy: ImaPolicy) -> None:
    accepted = taken(policy, written(LIST), LIST, [1000])

    assert ListInParts(policy, accepted.progress, quoted(LIST)).is_all
    assert not ListInParts(policy, accepted.progress, quoted([*LIST, EVIL])).is_all
    alone = taken(policy, AGGREGATE.binary, [AGGREGATE], [1000])
    assert ListInParts(policy, alone.progress, quoted([AGGREGATE])).is_all
    assert not ListInParts(policy, ImaProgress.start(), quoted([])).is_all  # IMA is off, which somebody has to say


@pytest.mark.parametrize("size", [len(AGGREGATE.binary), 1000], ids=["in parts", "at once"])
def test_where_the_boot_was_quoted_too_the_list_has_to_be_of_it(policy: ImaPolicy, size: int) -> None:
    boot = {index: bytes([index]) * 32 for index in range(10)}
    aggregate = ng(b"".join(boot.values()), b"boot_aggregate")

    def shown(entries: list[Entry]) -> AcceptedMeasurements | None:
        values = boot | {10: quoted(entries).values[10]}
        parts = ListInParts(policy, ImaProgress.start(), PcrValues(PcrSelection.of(PcrBank.SHA256, values), values))
        accepted = parts.take(written(entries)[:size])
        return accepted or parts.take(written(entries)[parts.offset :])

    assert shown([aggregate, FILES[0]]) is not None
    with pytest.raises(PolicyError, match="wrong_aggregate"):
        shown([AGGREGATE, FILES[0]])


def test_a_list_without_an_end_is_given_up(policy: ImaPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ima_parts, "LIST_BYTES_MAX", 500)

    with pytest.raises(ImaError, match="too_large"):
        taken(policy, written(LIST), [EVIL], [200])


def test_a_list_may_be_as_long_as_is_allowed_behind_what_was_accepted_before(
    policy: ImaPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = taken(policy, written(LIST), LIST[:4], [1000]).progress
    monkeypatch.setattr(ima_parts, "LIST_BYTES_MAX", len(written(LIST[4:6])))

    assert ListInParts(policy, before, quoted(LIST)).take(written(LIST[4:6])) is None
    with pytest.raises(ImaError, match="too_large"):
        ListInParts(policy, before, quoted(LIST)).take(written(LIST[4:7]))


def test_a_part_that_holds_no_whole_entry_ends_the_list(policy: ImaPolicy) -> None:
    with pytest.raises(ImaError, match="ima_list_mismatch"):
        taken(policy, written(LIST), LIST, [40])


def test_half_a_million_entries_that_grow_cost_their_new_part_alone(policy: ImaPolicy) -> None:
    """What a part costs is counted in the bytes that are taken, which is what is sent, replayed and judged."""
    many = AGGREGATE.binary + FILES[0].binary * 500_000
    pcrs = quoted([AGGREGATE, *[FILES[0]] * 500_000])
    parts, first, count, accepted = ListInParts(policy, ImaProgress.start(), pcrs), 0, 0, None
    while accepted is None:
        part = many[parts.offset : parts.offset + 768 * 1024]
        first, count = first + len(part), count + 1
        accepted = parts.take(part)
    grown = quoted([AGGREGATE, *[FILES[0]] * 500_000, FILES[1]])
    parts = ListInParts(policy, accepted.progress, grown)
    new = (many + FILES[1].binary)[parts.offset :]

    last = parts.take(new)
    assert last is not None
    assert last.progress.count == 500_002
    assert len(new) == len(FILES[1].binary)
    assert len(many) <= first < len(many) + count * LONGEST
