"""However many strangers want an activation, nodes and quotes keep half of the TPM."""

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from tccp.coordinator.activations import WAITING_MAX, Activations
from tccp.errors import HostError


@dataclass
class SlowTpm:
    """A TPM that takes its time, on a clock that only tests have."""

    busy_s: float = 0.0

    async def activate_credential(self, *_: object) -> bytes:
        await trio.sleep(0.01)
        self.busy_s += 0.01
        return bytes(32)


def activations(tpm: SlowTpm) -> Activations:
    return Activations(tpm, None, None)  # type: ignore[arg-type]


async def test_the_tpm_is_left_to_others_for_half_of_the_time(autojump_clock: MockClock) -> None:
    tpm = SlowTpm()
    queue = activations(tpm)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(queue.activate, b"x", b"y")

    assert tpm.busy_s == pytest.approx(0.5)
    assert trio.current_time() - began >= 2 * tpm.busy_s - 0.001


async def test_who_comes_too_many_is_sent_away_and_the_rest_is_served(autojump_clock: MockClock) -> None:
    queue, outcomes = activations(SlowTpm()), []

    async def ask() -> None:
        try:
            outcomes.append(await queue.activate(b"x", b"y"))
        except HostError as problem:
            outcomes.append(problem.reason.encode())

    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX + 10):
            nursery.start_soon(ask)

    assert outcomes.count(b"overloaded") == 10
    assert outcomes.count(bytes(32)) == WAITING_MAX


async def test_who_gives_up_leaves_his_place(autojump_clock: MockClock) -> None:
    queue = activations(SlowTpm())
    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX):
            nursery.start_soon(queue.activate, b"x", b"y")
        await trio.sleep(0.015)
        nursery.cancel_scope.cancel()

    assert await queue.activate(b"x", b"y") == bytes(32)
