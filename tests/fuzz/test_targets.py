"""The seeds of the fuzz targets, cut and changed, in every test run; `make fuzz` goes on where this ends."""

import random
import re
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
PLACES_MAX = 200
MUTATIONS = 1_000


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_target_stands_its_seeds_cut_and_changed_anywhere(target: Target) -> None:
    for seed in target.seeds():
        target.feed(seed)
        step = max(1, len(seed) // PLACES_MAX)
        for place in range(0, len(seed), step):
            target.feed(seed[:place])
            target.feed(seed[:place] + bytes([seed[place] ^ 1]) + seed[place + 1 :])
            target.feed(seed[:place] + b"\xff" + seed[place + 1 :])


@pytest.mark.parametrize(
    "target", [target for target in TARGETS.values() if target.is_msgpack], ids=lambda target: target.feed.__name__
)
def test_a_target_stands_changes_of_the_structure(target: Target) -> None:
    choice = random.Random(1)
    seeds = target.seeds()
    for _ in range(MUTATIONS):
        data = choice.choice(seeds)
        for _ in range(choice.randint(1, 4)):
            data = mutate(data, choice)
        target.feed(data)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "coordinator_evidence"])
def test_every_seed_is_legal(name: str) -> None:
    """A seed that is refused at once would leave the rest of its parser untouched."""
    assert all(TARGETS[name].feed(seed) for seed in TARGETS[name].seeds())


def test_garbage_with_deep_nesting_is_refused_and_nothing_else() -> None:
    deep = [b"\x91" * 100_000, b"[" * 60_000, b"a = " + b"[" * 60_000, b"a = " + b"{b=" * 20_000]
    for target in TARGETS.values():
        for data in deep:
            target.feed(data)


def fuzzed(*variables: str) -> list[str]:
    """What `make fuzz` would feed in Python."""
    make = ["make", "--dry-run", "fuzz-python", *variables]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.search(r"for target in(.*?);", said)
    assert found
    return found[1].split()


def test_every_target_is_fuzzed() -> None:
    assert fuzzed() == list(TARGETS)


def test_some_can_be_picked() -> None:
    assert fuzzed("FUZZ_PYTHON=policy rpm") == ["policy", "rpm"]
    assert fuzzed("FUZZ=quote") == []
