"""A program for test_writer_crash: kill a log's writer at a random moment, again and again, and look at what it left.

    python -m tests.transparency.crashing DIRECTORY ROUNDS SEED [early]

Each round forks a child that opens the log, appends batches for ever, and tells over a pipe of each size that was
acknowledged. The parent reads for a random while, kills it, opens the log as the next one would, and checks that every
acknowledged entry is in its place, no head ever went back, and tiles, bundles and checkpoint agree. With "early" the
child is a control: its checkpoint is written before its tiles.
"""

import os
import random
import signal
import struct
import sys
from pathlib import Path

from tccp.merkle import leaf_hash
from tccp.transparency.checkpoint import Checkpoint
from tccp.transparency.proof import TileHashes
from tccp.transparency.tile import ENTRIES, Tile, decode_entries, tile_at
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.tree_edge import TreeEdge
from tccp.transparency.writer import LogWriter
from tests.transparency.support import entries_of, signer

ACK = struct.Struct("<Q32s")


class EarlyDirectory(TileDirectory):
    """The files without their order: tiles are kept back until the checkpoint that speaks of them is there."""

    _kept: dict[Tile, bytes] | None = None

    def write_tiles(self, tiles: dict[Tile, bytes]) -> None:  # type: ignore[override]
        self._kept = tiles

    def write_checkpoint(self, note: bytes) -> None:
        super().write_checkpoint(note)
        super().write_tiles(self._kept or {})


def append_for_ever(directory: Path, acks: int, seed: int, *, early: bool) -> None:
    choice = random.Random(seed)
    writer = LogWriter.open(directory, signer(), signed=None)
    if early:
        writer.files.__class__ = EarlyDirectory
    while True:
        first = max(0, writer.size - choice.randrange(3))  # some entries twice, as a feeder that was not told
        head = writer.append(first, entries_of(choice.choice([1, 3, 40, 255, 256, 700]), first)).checkpoint
        os.write(acks, ACK.pack(head.size, head.root))


def acknowledged(pipe: int, choice: random.Random, child: int) -> list[Checkpoint]:
    """What the child acknowledged until it was killed, which is after a random number of bytes."""
    received = b""
    wanted = choice.randrange(1, 30 * ACK.size)
    while len(received) < wanted:
        more = os.read(pipe, choice.randrange(1, 4 * ACK.size))
        assert more, "the child ended by itself"
        received += more
    os.kill(child, signal.SIGKILL)
    while more := os.read(pipe, 65_536):
        received += more
    os.waitpid(child, 0)
    whole = received[: len(received) // ACK.size * ACK.size]
    return [Checkpoint(signer().key.name, *fields) for fields in ACK.iter_unpack(whole)]


def check(directory: Path, heads: list[Checkpoint]) -> Checkpoint:
    """Every head that was acknowledged is one of this log, and all that it says can be read; returns the last one."""
    files = TileDirectory(directory)
    last = heads[-1]
    with LogWriter.open(directory, signer(), signed=last) as writer:
        head = writer.head.checkpoint
        for each in heads:
            assert TileHashes(files.read_tile, head.size).range_hash(0, each.size) == each.root
        edge = TreeEdge()
        for index in range(-(-head.size // 256)):
            tile = tile_at(ENTRIES, index, head.size)
            entries = decode_entries(tile, files.read_tile(tile))
            assert entries == entries_of(tile.width, 256 * index)
            edge.extend(map(leaf_hash, entries))
        assert edge.root() == head.root
    return head


def main(directory: Path, rounds: int, seed: int, *options: str) -> None:
    choice = random.Random(seed)
    LogWriter.create(directory, signer()).close()
    heads = [Checkpoint(signer().key.name, 0, TreeEdge().root())]
    for _ in range(rounds):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            append_for_ever(directory, writing, choice.randrange(1 << 32), early=options == ("early",))
            os._exit(1)
        os.close(writing)
        heads += acknowledged(reading, choice, child)
        os.close(reading)
        heads.append(check(directory, heads))
    sys.stdout.write(f"{rounds} rounds, {len(heads)} heads, {heads[-1].size} entries\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
