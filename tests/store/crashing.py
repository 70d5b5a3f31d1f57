"""A program for test_crash: kill a writer at a random moment, again and again, and look at what it left.

    python -m tests.store.crashing DATABASE ROUNDS SEED [early]

Each round forks a child that opens the store, and tells over a pipe of each transaction that was acknowledged. The
parent reads for a random while, kills the child, takes what is left in the pipe, and checks a copy of the database as a
new coordinator would find it. With "early" the child is a control: it acknowledges before it commits.
"""

import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from tccp.store import EventDraft, Store, open_store, sqlite_access
from tccp.store.writer import GroupWriter
from tests.store.support import lease, node, policy, renew, renewal_of

TASKS = 16
ACK = struct.Struct("<cQQ")  # what, the event's place (or the time of the renewal), a number of the caller's


class _AnsweringConnection:
    """A connection that answers the waiting tasks before it commits, and gives them time to act on the answer."""

    def __init__(self, connection: sqlite3.Connection, answer: Callable[[], None]) -> None:
        self._connection = connection
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            self._answer()
            time.sleep(0.005)
        return self._connection.execute(statement, *values)


class EarlyWriter(GroupWriter):
    """The writer without its one promise."""

    def __init__(self, connection: sqlite3.Connection, *args: Any) -> None:
        super().__init__(_AnsweringConnection(connection, self._answer), *args)  # type: ignore[arg-type]

    def _execute(self, group: list[Any]) -> None:
        self._group = group
        super()._execute(group)

    def _answer(self) -> None:
        self._token.run_sync_soon(self._release, self._group)

    def _release(self, group: list[Any]) -> None:
        super()._release(group)
        for job in group:
            job.task = None


async def admit_and_renew(store: Store, task: int, acks: int, round_number: int) -> None:
    name = f"n{task}"
    number = (round_number * TASKS + task) << 32
    while True:
        number += 1
        body = number.to_bytes(8, "little")
        if number % 3 == 0:
            os.write(acks, ACK.pack(b"e", await store.append_event(EventDraft(1, "refuse", None, body)), number))
            continue
        admitted = lease(name, number)
        os.write(acks, ACK.pack(b"e", await store.admit(admitted, body), number))
        await renew(store, renewal_of(admitted, 2_000 + number % 1_000))
        os.write(acks, ACK.pack(b"r", 2_000 + number % 1_000, number))


async def write_for_ever(database: Path, acks: int, round_number: int) -> None:
    async with open_store(database) as store:
        if round_number == 0:
            await store.add_policy(policy())
            await store.import_nodes([(node(f"n{task}"), b"") for task in range(TASKS)])
            os.write(acks, ACK.pack(b"e", 1, 0))
        async with trio.open_nursery() as nursery:
            for task in range(TASKS):
                nursery.start_soon(admit_and_renew, store, task, acks, round_number)


def read_acks(pipe: int, choice: random.Random, child: int) -> list[tuple[bytes, int, int]]:
    """What the child acknowledged until it was killed, which is after a random number of bytes."""
    received = b""
    wanted = choice.randrange(1, 8_000)
    while len(received) < wanted:
        received += os.read(pipe, choice.randrange(1, 4_096))
    os.kill(child, signal.SIGKILL)
    while more := os.read(pipe, 65_536):
        received += more
    os.waitpid(child, 0)
    return list(ACK.iter_unpack(received[: len(received) // ACK.size * ACK.size]))


def check(database: Path, acks: list[tuple[bytes, int, int]], before: int) -> int:
    """Every acknowledged event is in its place and the places are dense; returns the last one."""
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    bodies = dict(connection.execute("SELECT seq, body FROM event"))
    assert sorted(bodies) == list(range(1, len(bodies) + 1))
    assert len(bodies) >= before
    renewed = dict(
        connection.execute(
            "SELECT lease.lease_id, coalesce(open_lease.renewed_ms, lease.renewed_ms)"
            " FROM lease LEFT JOIN open_lease USING (lease_id)"
        )
    )
    connection.close()
    for what, value, number in acks:
        if what == b"r":
            assert renewed[number.to_bytes(16, "big")] == value, number
        elif number:
            assert bodies[value] == number.to_bytes(8, "little"), number
    return len(bodies)


def main(database: Path, rounds: int, seed: int, *options: str) -> None:
    if options == ("early",):
        sqlite_access.GroupWriter = EarlyWriter  # type: ignore[misc]
    choice = random.Random(seed)
    last = acknowledged = 0
    for round_number in range(rounds):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            trio.run(write_for_ever, database, writing, round_number)
            os._exit(1)
        os.close(writing)
        acks = read_acks(reading, choice, child)
        os.close(reading)
        # The next child goes on with the files themselves; a copy is checked, for checking folds the log into the file.
        copy = database.with_name("copy.db")
        for suffix in ("", "-wal"):
            if Path(f"{database}{suffix}").exists():
                shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
        last = check(copy, acks, last)
        for left in copy.parent.glob("copy.db*"):
            left.unlink()
        acknowledged += len(acks)
    sys.stdout.write(f"{rounds} rounds, {acknowledged} acknowledged, {last} events\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
