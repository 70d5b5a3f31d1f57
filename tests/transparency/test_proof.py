"""Proofs are those of the RFC, and nothing else is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import LogError
from tccp.merkle import EMPTY_ROOT, leaf_hash, node_hash, root_from_path
from tccp.transparency.proof import (
    PROOF_HASHES_MAX,
    TileHashes,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from tccp.transparency.tile import SIZE_MAX, Tile
from tests.transparency.support import (
    MemoryTiles,
    entries_of,
    naive_consistency,
    naive_path,
    naive_root,
)

SIZE = 700
ENTRIES = entries_of(SIZE)
TILES = MemoryTiles(ENTRIES, range(SIZE + 1))
ROOTS = [naive_root(ENTRIES[:size]) for size in range(SIZE + 1)]


def hashes(size: int = SIZE) -> TileHashes:
    return TileHashes(TILES.read, size)


sizes = st.integers(1, SIZE)


@given(st.data(), sizes)
def test_a_path_from_tiles_is_the_one_of_the_rfc(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = prove_inclusion(hashes(size), index)

    assert path == naive_path(index, ENTRIES[:size])
    verify_inclusion(ENTRIES[index], index, size=size, root=ROOTS[size], path=path)


@given(st.data(), sizes)
def test_a_consistency_proof_from_tiles_is_the_one_of_the_rfc(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    path = prove_consistency(hashes(new), old)

    assert path == (naive_consistency(old, ENTRIES[:new]) if old else [])
    verify_consistency(old, ROOTS[old], new, ROOTS[new], path)


@given(sizes)
def test_tiles_of_a_greater_tree_tell_the_root_of_every_smaller_one(size: int) -> None:
    assert hashes().range_hash(0, size) == ROOTS[size]


@given(st.data(), st.integers(2, SIZE))
def test_no_other_entry_place_size_or_path_is_proved(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    root, path, entry = ROOTS[size], prove_inclusion(hashes(size), index), ENTRIES[index]
    elsewhere = data.draw(st.integers(0, size - 1).filter(lambda place: place != index))
    place = data.draw(st.integers(0, len(path) - 1))
    altered = [*path[:place], bytes([path[place][0] ^ 1]) + path[place][1:], *path[place + 1 :]]

    forged = [
        (b"another entry", index, size, path),
        (entry, elsewhere, size, path),
        (entry, index, size, altered),
        (entry, index, size, path[:-1]),
        (entry, index, size, [*path, root]),
        (entry, index, size, path[::-1] if path[::-1] != path else []),
    ]
    for what, where, how_many, how in forged:
        with pytest.raises(LogError) as refusal:
            verify_inclusion(what, where, size=how_many, root=root, path=how)
        assert refusal.value.reason == "inclusion"


@given(st.data(), st.integers(2, SIZE))
def test_a_proof_for_one_size_is_none_for_the_root_of_another(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(index + 1, SIZE).filter(lambda number: number != size))

    with pytest.raises(LogError) as refusal:
        verify_inclusion(
            ENTRIES[index], index, size=other, root=ROOTS[other], path=prove_inclusion(hashes(size), index)
        )
    assert refusal.value.reason == "inclusion"


@pytest.mark.parametrize("index", [-1, SIZE, SIZE + 1])
def test_nothing_outside_of_the_tree_is_proved(index: int) -> None:
    with pytest.raises(LogError, match="not_in_tree"):
        verify_inclusion(b"", index, size=SIZE, root=ROOTS[SIZE], path=[])
    with pytest.raises(LogError, match="not_in_tree"):
        prove_inclusion(hashes(), index)


@pytest.mark.parametrize("old_size", [-1, SIZE + 1])
def test_no_greater_tree_is_proved_to_be_continued(old_size: int) -> None:
    with pytest.raises(LogError, match="not_in_tree"):
        prove_consistency(hashes(), old_size)


@given(st.data(), st.integers(2, SIZE))
def test_no_forged_consistency_proof_holds(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new - 1))
    path = prove_consistency(hashes(new), old)
    place = data.draw(st.integers(0, len(path) - 1))
    altered = [*path[:place], bytes([path[place][0] ^ 1]) + path[place][1:], *path[place + 1 :]]
    other = leaf_hash(b"another tree")

    for old_root, new_root, proof in [
        (other, ROOTS[new], path),
        (ROOTS[old], other, path),
        (ROOTS[old], ROOTS[new], altered),
        (ROOTS[old], ROOTS[new], path[:-1]),
        (ROOTS[old], ROOTS[new], [*path, other]),
    ]:
        with pytest.raises(LogError) as refusal:
            verify_consistency(old, old_root, new, new_root, proof)
        assert refusal.value.reason == "inconsistent"


@given(st.data(), st.integers(2, SIZE))
def test_a_rewritten_past_has_no_consistency_proof(data: st.DataObject, new: int) -> None:
    """The liar makes the proof herself, in the tree that she wants to be believed."""
    old = data.draw(st.integers(1, new - 1))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*ENTRIES[:changed], b"never happened", *ENTRIES[changed + 1 : new]]
    tiles = MemoryTiles(rewritten)
    proof = prove_consistency(TileHashes(tiles.read, new), old)

    with pytest.raises(LogError, match="inconsistent"):
        verify_consistency(old, ROOTS[old], new, naive_root(rewritten), proof)
    # the control: nobody who has not seen the old tree can tell
    verify_consistency(old, naive_root(rewritten[:old]), new, naive_root(rewritten), proof)


def test_rollback_and_fork_are_called_so() -> None:
    with pytest.raises(LogError, match="rollback"):
        verify_consistency(9, ROOTS[9], 8, ROOTS[8], [])
    with pytest.raises(LogError, match="fork"):
        verify_consistency(9, ROOTS[9], 9, ROOTS[8], [])


def test_an_empty_tree_has_one_root_and_every_tree_continues_it() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 5, ROOTS[5], [])
    with pytest.raises(LogError, match="inconsistent"):
        verify_consistency(0, ROOTS[1], 5, ROOTS[5], [])
    with pytest.raises(LogError, match="inconsistent"):
        verify_consistency(0, ROOTS[1], 0, ROOTS[1], [])
    with pytest.raises(LogError, match="proof_malformed"):
        verify_consistency(0, EMPTY_ROOT, 5, ROOTS[5], [ROOTS[1]])


def test_a_proof_of_the_wrong_form_is_refused_before_anything_is_hashed() -> None:
    for path in ([b""], [bytes(31)], [bytes(33)], [bytes(32)] * (PROOF_HASHES_MAX + 1)):
        with pytest.raises(LogError, match="proof_malformed"):
            verify_inclusion(b"", 0, size=2, root=bytes(32), path=path)
        with pytest.raises(LogError, match="proof_malformed"):
            verify_consistency(1, bytes(32), 2, bytes(32), path)
    with pytest.raises(LogError, match="proof_malformed"):
        verify_inclusion(b"", 0, size=SIZE_MAX + 1, root=bytes(32), path=[])


def test_an_inner_node_is_not_an_entry() -> None:
    """Without the prefixes of leaf and node, the two hashes under the root would be an entry of a smaller tree."""
    left, right = leaf_hash(ENTRIES[0]), leaf_hash(ENTRIES[1])

    assert ROOTS[2] == node_hash(left, right)
    assert root_from_path(b"\1" + left + right, 0, 1, []) != ROOTS[2]
    with pytest.raises(LogError, match="inclusion"):
        verify_inclusion(left + right, 0, size=1, root=ROOTS[2], path=[])


# ---- tiles from a liar


@given(st.integers(0, SIZE - 1), st.data())
def test_a_swapped_or_altered_tile_leads_to_no_proof(index: int, data: st.DataObject) -> None:
    needed: list[Tile] = []

    def noting(tile: Tile) -> bytes:
        needed.append(tile)
        return TILES[tile]

    honest = prove_inclusion(TileHashes(noting, SIZE), index)
    victim = data.draw(st.sampled_from(needed))
    others = [TILES[tile] for tile in TILES if tile.width == victim.width and tile != victim]
    lie = data.draw(st.sampled_from([*others, bytes(victim.width * 32)]))

    path = prove_inclusion(TileHashes(lambda tile: lie if tile == victim else TILES[tile], SIZE), index)

    if path != honest:
        with pytest.raises(LogError, match="inclusion"):
            verify_inclusion(ENTRIES[index], index, size=SIZE, root=ROOTS[SIZE], path=path)


@pytest.mark.parametrize("end", [-1, -32, -33, 0])
def test_a_truncated_tile_is_refused(end: int) -> None:
    with pytest.raises(LogError, match="tile_length"):
        prove_inclusion(TileHashes(lambda tile: TILES[tile][:end], SIZE), 3)


def test_a_tile_with_more_than_it_can_have_is_refused() -> None:
    with pytest.raises(LogError, match="tile_length"):
        prove_inclusion(TileHashes(lambda tile: TILES[tile] + bytes(32), SIZE), 3)


def test_tiles_of_a_smaller_tree_are_no_tiles_of_a_greater_one() -> None:
    """A log that was rolled back serves its old partial tiles for the new checkpoint."""
    old = {Tile(tile.level, tile.index): data for tile, data in TILES.items() if tile.width == 100}

    with pytest.raises(LogError, match="tile_length"):
        prove_inclusion(TileHashes(lambda tile: old.get(Tile(tile.level, tile.index), TILES[tile]), SIZE), SIZE - 1)


def test_each_tile_is_read_once_and_few_are() -> None:
    read: list[Tile] = []

    def noting(tile: Tile) -> bytes:
        read.append(tile)
        return TILES[tile]

    prove_inclusion(TileHashes(noting, SIZE), 5)

    assert len(read) == len(set(read)) <= 3
