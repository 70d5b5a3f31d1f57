"""The seeds of the fuzz targets, cut and changed, in every test run; `make fuzz` goes on where this ends."""

import random
import re
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutate_msgpack
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
MUTATIONS = {mutate_msgpack: 1_000}
MUTATIONS_OF_TEXT = 300
# What nobody is believed whatever she shows has no seed that is accepted.
NEVER_ACCEPTED = {"coordinator_evidence"}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_target_stands_its_seeds_cut_and_changed_anywhere(target: Target) -> None:
    for seed in target.seeds():
        target.feed(seed)
        step = max(1, len(seed) // target.places)
        for place in range(0, len(seed), step):
            target.feed(seed[:place])
            target.feed(seed[:place] + bytes([seed[place] ^ 1]) + seed[place + 1 :])
            target.feed(seed[:place] + b"\xff" + seed[place + 1 :])


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.mutate is not None])
def test_a_target_stands_changes_of_the_structure(name: str) -> None:
    target, choice = TARGETS[name], random.Random(1)
    assert target.mutate is not None
    seeds = target.seeds()
    for _ in range(MUTATIONS.get(target.mutate, MUTATIONS_OF_TEXT)):
        data = choice.choice(seeds)
        for _ in range(choice.randint(1, 4)):
            data = target.mutate(data, choice)
        target.feed(data)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in NEVER_ACCEPTED])
def test_every_seed_is_legal(name: str) -> None:
    """A seed that is refused at once would leave the rest of its parser untouched."""
    assert all(TARGETS[name].feed(seed) for seed in TARGETS[name].seeds())


@pytest.mark.parametrize("target", [target for target in TARGETS.values() if target.real], ids=lambda each: each.real)
def test_real_ones_are_there(target: Target) -> None:
    assert any(VECTORS.glob(target.real))


def test_garbage_with_deep_nesting_is_refused_and_nothing_else() -> None:
    deep = [b"\x91" * 100_000, b"[" * 60_000, b"a = " + b"[" * 60_000, b"a = " + b"{b=" * 20_000]
    for target in TARGETS.values():
        for data in deep:
            target.feed(data)


def test_blanks_without_end_take_no_longer_than_other_garbage() -> None:
    """A pattern that may cut a run of blanks anywhere tries all places with all others: minutes for these."""
    headers = (b"TCCP KEY SHARE", b"TCCP TENANT SECRET KEY", b"PUBLIC KEY")
    blank = [b"-----BEGIN " + header + b"-----" + b" " * 60_000 for header in headers]
    for target in TARGETS.values():
        for data in [*blank, b" " * 60_000, b"\n" * 6_000]:
            target.feed(data)


def fuzzed(*variables: str) -> list[str]:
    """What `make fuzz` would feed in Python."""
    make = ["make", "--dry-run", "fuzz-python", *variables]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.search(r"for target in(.*?);", said)
    assert found
    return found[1].split()


def test_every_target_stands_in_the_table_of_campaigns() -> None:
    """A new one with zeros, until somebody has run it."""
    rows = re.findall(
        r"^\| `([^`]+)` \| .+ \| [0-9,]+ \| [0-9,]+ \|$", (ROOT / "docs" / "FUZZING.md").read_text(), re.MULTILINE
    )
    in_c = [f"csrc/fuzz/{path.name}" for path in (ROOT / "csrc" / "fuzz").glob("fuzz_*.c")]
    assert sorted(rows) == sorted([*TARGETS, *in_c])


def test_every_target_is_fuzzed() -> None:
    assert fuzzed() == list(TARGETS)


def test_some_can_be_picked() -> None:
    assert fuzzed("FUZZ_PYTHON=policy rpm") == ["policy", "rpm"]
    assert fuzzed("FUZZ=quote") == []
