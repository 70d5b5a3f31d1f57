"""Counts stay few, whatever is counted."""

import pytest

from tccp.measures import NAMES_MAX, OTHER, Durations, Tally


def test_durations_are_counted_up_to_each_bound() -> None:
    durations = Durations((1.0, 2.0))
    for duration_s in (0.5, 1.0, 1.5, 2.5):
        durations.add(duration_s)

    assert durations.cumulative == [2, 3, 4]
    assert durations.sum_s == 5.5


def test_what_fails_is_measured_too() -> None:
    durations = Durations()
    with pytest.raises(ValueError, match="so it ends"), durations.measure():
        raise ValueError("so it ends")

    assert durations.cumulative[-1] == 1
    assert durations.sum_s > 0


def test_names_that_a_peer_makes_up_fill_no_memory() -> None:
    tally = Tally()
    for number in range(10 * NAMES_MAX):
        tally.add(str(number))
    tally.add("0")

    assert tally.by_name["0"] == 2
    assert tally.by_name[OTHER] == 9 * NAMES_MAX
    assert (len(tally), len(tally.by_name)) == (10 * NAMES_MAX + 1, NAMES_MAX + 1)
