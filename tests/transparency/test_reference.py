"""Byte for byte what Go's checksum database makes: trees, tiles, proofs and notes; so each reads the other."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tccp.transparency.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from tccp.transparency.note import open_note, parse_note_key, sign_note
from tccp.transparency.proof import (
    TileHashes,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from tccp.transparency.tile import ENTRIES, decode_entries, parse_tile_path, tile_at
from tccp.transparency.witness import cosign
from tccp.transparency.writer import LogWriter
from tests.transparency.support import ORIGIN, VECTORS, MemoryTiles, entries_of, signer, witness

SIZE = 70_000


@functools.cache
def reference() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / "reference.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def tiles() -> MemoryTiles:
    return MemoryTiles(entries_of(SIZE), [int(size) for size in reference()["Roots"]])


def test_our_roots_are_theirs(tiles: MemoryTiles) -> None:
    for size, root in reference()["Roots"].items():
        assert TileHashes(tiles.read, int(size)).range_hash(0, int(size)).hex() == root
        assert TileHashes(tiles.read, SIZE).range_hash(0, int(size)).hex() == root


def test_our_inclusion_proofs_are_theirs(tiles: MemoryTiles) -> None:
    for proof in reference()["Inclusion"]:
        index, size = proof["Index"], proof["Size"]
        path = prove_inclusion(TileHashes(tiles.read, size), index)

        assert [digest.hex() for digest in path] == proof["Path"]
        root = bytes.fromhex(reference()["Roots"][str(size)])
        verify_inclusion(b"entry %d" % index, index, size=size, root=root, path=path)


def test_our_consistency_proofs_are_theirs(tiles: MemoryTiles) -> None:
    roots = {int(size): bytes.fromhex(root) for size, root in reference()["Roots"].items()}
    for proof in reference()["Consistency"]:
        old, new = proof["Old"], proof["New"]
        path = prove_consistency(TileHashes(tiles.read, new), old)

        assert [digest.hex() for digest in path] == proof["Path"]
        verify_consistency(old, roots[old], new, roots[new], path)


def test_our_tiles_are_theirs(tiles: MemoryTiles) -> None:
    for path, digest in reference()["Tiles"].items():
        tile = parse_tile_path(path)
        widest = max(each for each in tiles if (each.level, each.index) == (tile.level, tile.index))

        assert hashlib.sha256(tiles[widest][: 32 * tile.width]).hexdigest() == digest, path


def test_our_notes_are_theirs() -> None:
    for vector in reference()["Notes"]:
        keys = [parse_note_key(key) for key in vector["Keys"]]
        signers = [signer(key.name) for key in keys]

        assert [str(each.key) for each in signers] == vector["Keys"]
        assert sign_note(vector["Text"], *signers).encode() == vector["Note"].encode()
        assert open_note(vector["Note"].encode(), keys).note.text == vector["Text"]


def test_their_checkpoints_are_checkpoints() -> None:
    for vector in reference()["Notes"][:-1]:
        checkpoint = verify_checkpoint(
            vector["Note"].encode(), origin=ORIGIN, log_key=parse_note_key(vector["Keys"][0])
        ).checkpoint

        assert parse_checkpoint(vector["Text"]) == checkpoint
        assert checkpoint.root.hex() == reference()["Roots"][str(checkpoint.size)]


def test_our_cosignature_is_the_one_that_another_implementation_verified() -> None:
    """Cosignatures are younger than Go's packages: the README beside the vectors says who verified this one."""
    checkpoint = Checkpoint(ORIGIN, SIZE, bytes.fromhex(reference()["Roots"][str(SIZE)]))
    new = verify_checkpoint(sign_note(checkpoint.text(), signer()).encode(), origin=ORIGIN, log_key=signer().key)
    _, note = cosign(witness(), None, new, [], at_s=1_700_000_000)

    assert note.encode() == (VECTORS / "cosigned.txt").read_bytes()


def test_a_log_on_disk_is_theirs(tmp_path: Path) -> None:
    with LogWriter.create(tmp_path / "log", signer()) as log:
        for size in (1, 257, 513, 65_537, SIZE):
            log.append(log.size, entries_of(size - log.size, log.size))
            (theirs,) = [vector["Note"] for vector in reference()["Notes"] if f"\n{size}\n" in vector["Text"]]
            text, _, signatures = theirs.partition("\n\n")
            assert (tmp_path / "log" / "checkpoint").read_text() == f"{text}\n\n{signatures.splitlines()[0]}\n"
    for path, digest in reference()["Tiles"].items():
        tile = parse_tile_path(path)
        if tile == tile_at(tile.level, tile.index, SIZE):
            assert hashlib.sha256((tmp_path / "log" / path).read_bytes()).hexdigest() == digest
    last = tile_at(ENTRIES, SIZE // 256, SIZE)
    entries = decode_entries(last, (tmp_path / "log" / last.path).read_bytes())
    assert entries == entries_of(last.width, SIZE // 256 * 256)
