"""A witness answers as C2SP tlog-witness says, and lets each log only go forward."""

import contextlib
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tccp.errors import ConfigError, HostError
from tccp.transparency.add_checkpoint import AddCheckpoint
from tccp.transparency.checkpoint import Checkpoint, verify_checkpoint
from tccp.transparency.note import SignatureType
from tccp.transparency.proof import TileHashes, prove_consistency
from tccp.transport.http import HttpRequest
from tccp.witness.answers import WitnessAnswers
from tccp.witness.keys import create_witness, load_signer
from tccp.witness.memory import WitnessMemory
from tests.support.witnesses import LiveWitness, live_witness
from tests.transparency.support import (
    ORIGIN,
    MemoryTiles,
    entries_of,
    naive_root,
    signed_checkpoint,
    signer,
)

SIZE = 300
ENTRIES = entries_of(SIZE)
TILES = MemoryTiles(ENTRIES, range(SIZE + 1))
EVIL = b"\xab" * 32


def note(size: int) -> bytes:
    return signed_checkpoint(size, naive_root(ENTRIES[:size]))


def proof(old: int, new: int) -> list[bytes]:
    return prove_consistency(TileHashes(TILES.read, new), old)


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[LiveWitness]:
    async with live_witness(tmp_path, [signer().key]) as running:
        yield running


async def test_a_log_that_grows_is_cosigned_at_every_step(witness: LiveWitness) -> None:
    old = 0
    for size in (0, 1, 2, 2, 256, 257, SIZE):
        answer = await witness.add(old, proof(old, size) if old else [], note(size))
        assert answer.status == 200
        seen = verify_checkpoint(
            note(size) + answer.body, origin=ORIGIN, log_key=signer().key, witnesses=[witness.key], witnesses_required=1
        )
        assert seen.checkpoint.size == size
        old = size


async def test_whoever_does_not_know_where_the_witness_is_is_told(witness: LiveWitness) -> None:
    await witness.add(0, [], note(7))

    answer = await witness.add(0, [], note(9))

    assert (answer.status, answer.body, answer.header("content-type")) == (409, b"7\n", "text/x.tlog.size")
    assert (await witness.add(7, proof(7, 9), note(9))).status == 200


async def test_each_refusal_has_the_status_of_the_specification(witness: LiveWitness) -> None:
    stranger = signed_checkpoint(9, naive_root(ENTRIES[:9])).replace(ORIGIN.encode(), b"elsewhere.example/log")
    forged = note(9)[:-8] + b"AAAA=\n"
    await witness.add(0, [], note(7))

    assert (await witness.add(0, [], stranger)).status == 404
    assert (await witness.ask(b"", path="/elsewhere")).status == 404
    assert (await witness.add(7, proof(7, 9), forged)).status in {400, 403}
    unsigned = note(9).replace("— example.org/log".encode(), "— example.net/log".encode())
    assert (await witness.add(7, proof(7, 9), unsigned)).status == 403
    assert (await witness.add(9, [], note(7))).status == 400
    assert (await witness.ask(b"old 7\nnot base64\n\n" + note(9))).status == 400
    assert (await witness.ask(b"x" * 1_000_000)).status == 413
    assert (await witness.add(7, [EVIL] * 3, note(9))).status == 422
    assert (await witness.add(7, [], note(9))).status == 422
    assert WitnessMemory(witness.state).latest(ORIGIN).size == 7  # type: ignore[union-attr]


# ---- attacks


async def test_a_rollback_gets_no_cosignature(witness: LiveWitness) -> None:
    await witness.add(0, [], note(100))

    for old in (0, 50, 99):
        answer = await witness.add(old, proof(old, 99) if old and old < 99 else [], note(99))
        assert (answer.status, answer.body) == (409, b"100\n")
    assert (await witness.add(100, [], note(99))).status == 400


async def test_a_fork_gets_no_cosignature_and_leaves_evidence(witness: LiveWitness) -> None:
    """Both heads are signed by the log: nobody needs to believe the witness."""
    await witness.add(0, [], note(100))
    other = signed_checkpoint(100, EVIL)

    assert (await witness.add(100, [], other)).status == 409
    assert (await witness.add(100, [EVIL], signed_checkpoint(101, EVIL))).status == 422

    kept = list((witness.state / "evidence").iterdir())
    assert [path.read_bytes() for path in kept] == [note(100) + b"\n" + other]


async def test_a_fork_for_which_no_evidence_can_be_kept_gets_no_cosignature_either(witness: LiveWitness) -> None:
    await witness.add(0, [], note(100))
    (witness.state / "evidence").rmdir()
    (witness.state / "evidence").touch()

    answer = await witness.add(100, [], signed_checkpoint(100, EVIL))

    assert (answer.status, answer.body) == (500, b"memory_unreadable\n")
    assert (await witness.add(100, proof(100, 200), note(200))).status == 200


def branch(size: int, name: int) -> tuple[list[bytes], bytes]:
    """A history of its own after 100 entries: the proof from there, and a head of it."""
    entries = [*ENTRIES[:100], *entries_of(size - 100, 1_000 * name)]
    steps = prove_consistency(TileHashes(MemoryTiles(entries).read, size), 100)
    return steps, signed_checkpoint(size, naive_root(entries))


class HeldMemory(WitnessMemory):
    """A memory that two requests look into at the same moment; the first waits *wait_s* for the second."""

    def __init__(self, directory: Path, wait_s: float) -> None:
        super().__init__(directory)
        self._wait_s = wait_s
        self._both, self._writing = threading.Barrier(2), threading.Lock()

    def latest(self, origin: str) -> Checkpoint | None:
        found = super().latest(origin)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._both.wait(timeout=self._wait_s)
        return found

    def remember(self, origin: str, note: bytes) -> None:
        with self._writing:
            super().remember(origin, note)


async def both_at_once(witness: LiveWitness, *, in_turns: bool) -> list[int]:
    """Two heads that both continue what was cosigned, and contradict each other."""
    await witness.add(0, [], note(100))
    own = load_signer(witness.state, witness.key.name)
    answers = WitnessAnswers(own, HeldMemory(witness.state, 0.0 if in_turns else 30.0), {ORIGIN: signer().key})
    if not in_turns:
        answers._turns[ORIGIN] = trio.CapacityLimiter(2)  # type: ignore[assignment]
    statuses: list[int] = []

    async def ask(size: int, name: int) -> None:
        steps, head = branch(size, name)
        body = AddCheckpoint(100, tuple(steps), head).encode()
        statuses.append((await answers.answer(HttpRequest("POST", "/add-checkpoint", (), body))).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 110, 1)
        nursery.start_soon(ask, 120, 2)
    return sorted(statuses)


async def test_of_two_histories_at_the_same_moment_one_is_cosigned(witness: LiveWitness) -> None:
    assert await both_at_once(witness, in_turns=True) == [200, 409]


async def test_without_taking_turns_both_would_be(witness: LiveWitness) -> None:
    assert await both_at_once(witness, in_turns=False) == [200, 200]


async def test_without_its_memory_the_witness_cosigns_a_fork(witness: LiveWitness) -> None:
    """The control. It is also what holds of a witness whose state was lost: nothing, for what came after the copy."""
    await witness.add(0, [], note(100))
    shutil.rmtree(witness.state / "logs")
    (witness.state / "logs").mkdir()

    assert (await witness.add(0, [], signed_checkpoint(100, EVIL))).status == 200


async def test_a_witness_from_an_older_copy_still_lets_nothing_before_the_copy_change(tmp_path: Path) -> None:
    async with live_witness(tmp_path, [signer().key]) as witness:
        await witness.add(0, [], note(100))
        shutil.copytree(witness.state, tmp_path / "copy")
        await witness.add(100, proof(100, 200), note(200))
    shutil.rmtree(tmp_path / "state")
    shutil.move(tmp_path / "copy", tmp_path / "state")

    async with live_witness(tmp_path, [signer().key]) as restored:
        assert (await restored.add(0, [], note(99))).body == b"100\n"
        other = [*ENTRIES[:90], *entries_of(30, 1_000)]
        tiles = MemoryTiles(other)
        forged = prove_consistency(TileHashes(tiles.read, 120), 100)
        assert (await restored.add(100, forged, signed_checkpoint(120, naive_root(other)))).status == 422
        branch = [*ENTRIES[:100], *entries_of(30, 1_000)]
        tiles = MemoryTiles(branch)
        honest = prove_consistency(TileHashes(tiles.read, 130), 100)
        # What it cosigned after the copy it has forgotten: this is a second history, and it cannot tell.
        assert (await restored.add(100, honest, signed_checkpoint(130, naive_root(branch)))).status == 200


async def test_a_memory_that_cannot_be_written_cosigns_nothing(
    witness: LiveWitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("tccp.durable.os.fsync", full)
        answer = await witness.add(0, [], note(5))

    assert answer.status == 500
    assert b"witness.example" not in answer.body
    assert (await witness.add(0, [], note(5))).status == 200


async def test_a_damaged_memory_cosigns_nothing(witness: LiveWitness) -> None:
    await witness.add(0, [], note(5))
    (path,) = (witness.state / "logs").iterdir()
    path.write_bytes(b"nothing that can be read")

    assert (await witness.add(5, proof(5, 6), note(6))).status == 500
    assert (await witness.add(0, [], note(6))).status == 500


# ---- its key


def test_a_witness_is_made_once(tmp_path: Path) -> None:
    made = create_witness(tmp_path / "state", "witness.example/w1")

    assert load_signer(tmp_path / "state", "witness.example/w1").key == made.key
    assert made.key.type is SignatureType.COSIGNATURE
    with pytest.raises(ConfigError, match="already_initialised"):
        create_witness(tmp_path / "state", "witness.example/w1")


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    create_witness(tmp_path / "state", "witness.example/w1")
    (tmp_path / "state" / "witness.key").chmod(0o644)

    with pytest.raises(ConfigError, match="keys_exposed"):
        load_signer(tmp_path / "state", "witness.example/w1")


def test_a_state_that_was_never_made_is_not_begun_by_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not_initialised"):
        load_signer(tmp_path, "witness.example/w1")
    with pytest.raises(ConfigError, match="not_initialised"):
        WitnessMemory(tmp_path)
    with pytest.raises((ConfigError, HostError)):
        create_witness(tmp_path / "state", "a name with blanks")
