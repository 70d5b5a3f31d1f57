"""Tiles: their paths, and what is in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import LogError
from tccp.transparency.tile import (
    ENTRIES,
    ENTRY_BYTES_MAX,
    SIZE_MAX,
    WIDTH_MAX,
    Tile,
    decode_entries,
    decode_hashes,
    encode_entries,
    narrowed,
    parse_tile_path,
    tile_at,
)

tiles = st.builds(Tile, st.integers(ENTRIES, 7), st.integers(0, SIZE_MAX), st.integers(1, 256))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(2, 1_234_067), "tile/2/x001/x234/067"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(ENTRIES, 1_234_067, 255), "tile/entries/x001/x234/067.p/255"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


@given(tiles)
def test_a_path_names_its_tile(tile: Tile) -> None:
    assert parse_tile_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/8/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/",
        "tile/0/000\n",
        "/tile/0/000",
        "tile/0/../0/000",
        "tile/8/0/000",
        "tile/data/000",
        "tile/0/\N{ARABIC-INDIC DIGIT ONE}00",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/" + "x001/" * 1000 + "000",
        "checkpoint",
    ],
)
def test_what_is_no_path_of_a_tile_is_refused(path: str) -> None:
    with pytest.raises(LogError, match="tile_path"):
        parse_tile_path(path)


@given(st.text(max_size=80))
def test_any_text_is_a_path_or_refused(path: str) -> None:
    try:
        assert parse_tile_path(path).path == path
    except LogError as refusal:
        assert refusal.reason == "tile_path"  # noqa: PT017


def test_the_tiles_of_70000_entries_are_those_of_the_specification() -> None:
    assert tile_at(0, 272, 70_000).width == 256
    assert tile_at(0, 273, 70_000).width == 112
    assert tile_at(1, 0, 70_000).width == 256
    assert tile_at(1, 1, 70_000).width == 17
    assert tile_at(2, 0, 70_000).width == 1


@pytest.mark.parametrize(("level", "index", "width"), [(8, 0, 1), (-2, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_there_is_no_other_tile(level: int, index: int, width: int) -> None:
    with pytest.raises(ValueError, match="no such tile"):
        Tile(level, index, width)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_gives_its_entries_again(entries: list[bytes]) -> None:
    tile = Tile(ENTRIES, 0, len(entries))
    data = encode_entries(entries)

    assert decode_entries(tile, data) == entries
    for width in {1, len(entries)}:
        assert narrowed(Tile(ENTRIES, 0, width), tile, data) == encode_entries(entries[:width])


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.data())
def test_a_bundle_that_is_cut_or_has_more_is_refused(entries: list[bytes], data: st.DataObject) -> None:
    tile = Tile(ENTRIES, 0, len(entries))
    bundle = encode_entries(entries)
    for wrong in (
        bundle[: data.draw(st.integers(0, len(bundle) - 1))],
        bundle + b"\0",
        bundle + b"\0\0",
        bundle + b"\xff\xff",
    ):
        with pytest.raises(LogError, match="bundle_malformed"):
            decode_entries(tile, wrong)


def test_the_longest_entries_fit_and_longer_ones_do_not() -> None:
    longest = [bytes(ENTRY_BYTES_MAX)] * 256
    bundle = encode_entries(longest)

    assert len(bundle) == WIDTH_MAX * (2 + ENTRY_BYTES_MAX)
    assert decode_entries(Tile(ENTRIES, 0), bundle) == longest
    with pytest.raises(LogError, match="bundle_malformed"):
        decode_entries(Tile(ENTRIES, 0), bundle + b"\0")
    with pytest.raises(ValueError, match="65536"):
        encode_entries([bytes(ENTRY_BYTES_MAX + 1)])


@pytest.mark.parametrize("length", [0, 31, 32, 95, 97, 128, 8192])
def test_a_tile_has_exactly_its_hashes(length: int) -> None:
    with pytest.raises(LogError, match="tile_length"):
        decode_hashes(Tile(0, 0, 3), bytes(length))
