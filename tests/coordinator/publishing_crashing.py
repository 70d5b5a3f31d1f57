"""A program for test_published_crash: kill a coordinator's store and log at a random moment, again and again.

    python -m tests.coordinator.publishing_crashing FOLDER ROUNDS SEED [early]

Each round forks a child that opens both, and tells over a pipe of each event that was acknowledged. The parent reads
for a random while, kills the child, takes what is left in the pipe, and looks at what anybody would read of the log;
then it opens both as the next start does. With "early" the child is a control: it does not wait for the log.
"""

import os
import random
import signal
import struct
import sys
from functools import partial
from pathlib import Path

import trio

from tests.support.published import append, check_that_all_is_told, head_on_disk, publishing

TASKS = 8
ACK = struct.Struct("<Q")


async def act_for_ever(folder: Path, acks: int, *, early: bool) -> None:
    async with publishing(folder) as (store, log), trio.open_nursery() as nursery:

        async def act() -> None:
            while True:
                seq = await append(store)
                if not early:
                    await log.included(seq)
                os.write(acks, ACK.pack(seq))

        for _ in range(TASKS):
            nursery.start_soon(act)


def acknowledged(pipe: int, choice: random.Random, child: int) -> int:
    """The last event that the child acknowledged until it was killed."""
    received, wanted = b"", choice.randrange(1, 60) * ACK.size
    while len(received) < wanted:
        more = os.read(pipe, 4096)
        assert more, "the child ended by itself"
        received += more
    os.kill(child, signal.SIGKILL)
    while more := os.read(pipe, 65_536):
        received += more
    os.waitpid(child, 0)
    return max(seq for (seq,) in ACK.iter_unpack(received[: len(received) // ACK.size * ACK.size]))


async def look(folder: Path) -> None:
    """The next start tells what the last one could not."""
    async with publishing(folder) as (store, log):
        await log.included(await store.last_seq())
        await check_that_all_is_told(folder, store)


def main(folder: Path, rounds: int, seed: int, *options: str) -> None:
    choice, untold, entries = random.Random(seed), 0, 0
    for _ in range(rounds):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            trio.run(partial(act_for_ever, folder, writing, early=options == ("early",)))
            os._exit(1)
        os.close(writing)
        last = acknowledged(reading, choice, child)
        os.close(reading)
        untold += head_on_disk(folder).size < last
        trio.run(look, folder)
        entries = head_on_disk(folder).size
    sys.stdout.write(f"{rounds} rounds, {untold} of them with an event acknowledged and untold, {entries} entries\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
