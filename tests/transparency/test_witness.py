"""A witness lets a log only go forward; a rolled back or forked one gets no cosignature."""

import pytest

from tccp.errors import LogError
from tccp.transparency.checkpoint import Checkpoint, verify_checkpoint
from tccp.transparency.note import parse_note
from tccp.transparency.proof import TileHashes, prove_consistency
from tccp.transparency.witness import cosign, verify_advance
from tests.transparency.support import (
    ORIGIN,
    MemoryTiles,
    entries_of,
    naive_root,
    signed_checkpoint,
    signer,
    verified,
    witness,
)

SIZE = 300
ENTRIES = entries_of(SIZE)
TILES = MemoryTiles(ENTRIES, range(SIZE + 1))
WITNESS = witness()


def head(size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, naive_root(ENTRIES[:size]))


def proof(old: int, new: int) -> list[bytes]:
    return prove_consistency(TileHashes(TILES.read, new), old)


def test_a_log_that_grows_is_cosigned_at_every_step() -> None:
    latest = None
    for size in (0, 1, 2, 2, 255, 256, 257, SIZE):
        new = verified(size, head(size).root)
        steps = proof(latest.size, size) if latest else []

        latest, note = cosign(WITNESS, latest, new, steps, at_s=1_000 + size)

        assert latest == head(size)
        seen = verify_checkpoint(
            note.encode(), origin=ORIGIN, log_key=signer().key, witnesses=[WITNESS.key], witnesses_required=1
        )
        assert seen.witnessed_s == {WITNESS.key: 1_000 + size}


def test_a_later_cosignature_of_the_same_checkpoint_takes_the_place_of_the_earlier() -> None:
    latest, note = cosign(WITNESS, None, verified(9, head(9).root), [], at_s=1)
    again = verify_checkpoint(note.encode(), origin=ORIGIN, log_key=signer().key)
    _, note = cosign(WITNESS, latest, again, [], at_s=2)

    seen = verify_checkpoint(note.encode(), origin=ORIGIN, log_key=signer().key, witnesses=[WITNESS.key])
    assert seen.witnessed_s == {WITNESS.key: 2}


def test_a_witness_passes_on_what_others_signed() -> None:
    _, note = cosign(WITNESS, None, verified(9, head(9).root), [], at_s=1)
    both = cosign(witness("w2.example"), None, verify_checkpoint(note.encode(), origin=ORIGIN, log_key=signer().key),
                  [], at_s=2)[1]  # fmt: skip

    assert len(parse_note(both.encode()).signatures) == 3


def test_a_rollback_to_an_older_checkpoint_is_refused() -> None:
    """Every signature on it is good: only who remembers can tell."""
    old = verified(100, head(100).root)

    with pytest.raises(LogError, match="rollback"):
        cosign(WITNESS, head(200), old, [], at_s=1)
    assert cosign(WITNESS, None, old, [], at_s=1)  # the control: a witness without memory


def test_two_heads_of_one_size_are_a_fork() -> None:
    forked = naive_root([*ENTRIES[:199], b"another"])
    new = verified(200, forked)

    with pytest.raises(LogError, match="fork"):
        cosign(WITNESS, head(200), new, [], at_s=1)
    assert cosign(WITNESS, None, new, [], at_s=1)


@pytest.mark.parametrize(
    "rewritten",
    [
        [*ENTRIES[:50], b"never happened", *ENTRIES[51:]],  # changed
        [*ENTRIES[:50], *ENTRIES[51:], b"one more"],  # deleted
        [*ENTRIES[:50], ENTRIES[51], ENTRIES[50], *ENTRIES[52:]],  # reordered
        [*ENTRIES[:50], b"inserted", *ENTRIES[50:-1]],
    ],
)
def test_a_log_that_changes_deletes_reorders_or_inserts_is_refused(rewritten: list[bytes]) -> None:
    new = verified(SIZE, naive_root(rewritten))
    steps = prove_consistency(TileHashes(MemoryTiles(rewritten).read, SIZE), 200)

    with pytest.raises(LogError, match="inconsistent"):
        verify_advance(head(200), new, steps)
    with pytest.raises(LogError, match="inconsistent"):
        verify_advance(head(200), new, proof(200, SIZE))
    assert verify_advance(None, new, []).size == SIZE  # the control


def test_a_proof_from_another_size_is_refused() -> None:
    with pytest.raises(LogError, match="inconsistent"):
        verify_advance(head(200), verified(SIZE, head(SIZE).root), proof(199, SIZE))


def test_nothing_is_proved_from_nothing() -> None:
    with pytest.raises(LogError, match="proof_malformed"):
        verify_advance(None, verified(9, head(9).root), [bytes(32)])


def test_a_log_that_was_empty_does_not_become_another() -> None:
    other = Checkpoint("example.org/another", 5, bytes(32))

    with pytest.raises(LogError, match="origin"):
        verify_advance(other, verified(9, head(9).root), [])


def test_a_witness_signs_with_a_key_for_cosignatures_and_a_time() -> None:
    new = verified(9, head(9).root)
    for wrong, at_s in ((signer("w.example"), 1), (WITNESS, 0), (WITNESS, 1 << 63)):
        with pytest.raises(ValueError, match="a witness has"):
            cosign(wrong, None, new, [], at_s=at_s)


def test_no_other_log_can_be_passed_off_as_this_one() -> None:
    with pytest.raises(LogError, match="unsigned"):
        verify_checkpoint(signed_checkpoint(9, head(9).root), origin=ORIGIN, log_key=signer("another.example").key)
