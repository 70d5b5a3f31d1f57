"""Every answer of a TPM may be a lie: what was recorded from a real one is altered, byte by byte, and played back."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tccp.errors import TpmError
from tccp.model import PcrBank, PcrSelection
from tccp.tpm import Ak, Ek, Tpm, parse_tcti
from tccp.tpm.channel import Channel
from tccp.tpm.constants import RESPONSE_HEADER_BYTES
from tccp.tpm.tcti import Connection, StreamConnection
from tests.support.soft_tpm import SoftTpmPool
from tests.support.tpm2_tools import Tpm2Tools
from tests.tpm.fake_tpm import answering, serve

ALL_PCRS = PcrSelection(PcrBank.SHA256, tuple(range(24)))
Scenario = Callable[[Tpm], Awaitable[object]]


class Recorder:
    """A connection that keeps the responses."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.responses: list[bytes] = []

    async def send(self, data: bytes) -> None:
        await self._inner.send(data)

    async def receive(self) -> bytes:
        self.responses.append(await self._inner.receive())
        return self.responses[-1]

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.asynccontextmanager
async def closing(connection: Connection) -> AsyncIterator[Tpm]:
    tpm = Tpm(Channel(connection, timeout_s=90))
    try:
        yield tpm
    finally:
        await tpm.aclose()


@pytest.fixture(scope="module")
def recordings(soft_tpms: SoftTpmPool, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Scenario, list[bytes]]]:
    """Everything that the client can ask for, and what a TPM answered."""
    with soft_tpms.lend() as soft_tpm:
        tools = Tpm2Tools(soft_tpm, tmp_path_factory.mktemp("recordings"))
        tools.run("evictcontrol", "-C", "o", "-c", "0x81010001")
        return trio.run(record_all, soft_tpm.tcti, tools)


async def record_all(tcti: str, tools: Tpm2Tools) -> list[tuple[Scenario, list[bytes]]]:
    recordings: list[tuple[Scenario, list[bytes]]] = []

    async def record(scenario: Scenario) -> object:
        recorder.responses.clear()
        result = await scenario(tpm)
        recordings.append((scenario, recorder.responses[:]))
        return result

    recorder = Recorder(await parse_tcti(tcti).connect())
    async with closing(recorder) as tpm:
        for scenario in (
            Tpm.properties,
            Tpm.pcr_banks,
            Tpm.read_clock,
            Tpm.read_generation,
            Tpm.storage_name,
            lambda tpm: tpm.seal(bytes(32), bytes(32)),
            Tpm.read_ek,
            lambda tpm: tpm.read_pcrs(ALL_PCRS),
            lambda tpm: tpm.extend_pcr(8, PcrBank.SHA256, bytes(32)),
        ):
            await record(scenario)
        ek = await record(lambda tpm: tpm.read_ek(kind="rsa"))
        ak = await record(Tpm.create_ak)
        assert isinstance(ek, Ek)
        assert isinstance(ak, Ak)
        await record(lambda tpm: tpm.quote_with_pcrs(ak, bytes(32), ALL_PCRS))
        credential = tools.make_credential(ek.public, ak.name, bytes(32))
        await record(lambda tpm: tpm.activate_credential(ak, ek, *credential))
    return recordings


def play_back(scenario: Scenario, responses: list[bytes]) -> None:
    """Pauses take no time: some answers ask for patience."""
    trio.run(play, scenario, responses, clock=MockClock(autojump_threshold=0))


async def play(scenario: Scenario, responses: list[bytes]) -> None:
    """The client either gets something or fails in the foreseen way; it never hangs and never breaks."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answering(*responses))
        with contextlib.suppress(TpmError):
            async with closing(StreamConnection(ours)) as tpm:
                await scenario(tpm)
        nursery.cancel_scope.cancel()


@settings(max_examples=200)
@given(data=st.data())
def test_an_altered_answer_is_an_error_or_goes_unnoticed(
    recordings: list[tuple[Scenario, list[bytes]]], data: st.DataObject
) -> None:
    scenario, responses = data.draw(st.sampled_from(recordings))
    altered = [bytearray(response) for response in responses]
    target = data.draw(st.sampled_from([response for response in altered if len(response) > RESPONSE_HEADER_BYTES]))
    for _ in range(data.draw(st.integers(1, 4))):
        target[data.draw(st.integers(RESPONSE_HEADER_BYTES, len(target) - 1))] = data.draw(st.integers(0, 255))

    play_back(scenario, [bytes(response) for response in altered])


@settings(max_examples=100)
@given(data=st.data())
def test_a_shortened_answer_is_an_error_or_goes_unnoticed(
    recordings: list[tuple[Scenario, list[bytes]]], data: st.DataObject
) -> None:
    scenario, responses = data.draw(st.sampled_from(recordings))
    number = data.draw(st.integers(0, len(responses) - 1))
    size = data.draw(st.integers(RESPONSE_HEADER_BYTES, len(responses[number])))
    cut = responses[number][:2] + size.to_bytes(4, "big") + responses[number][6:size]

    play_back(scenario, [*responses[:number], cut, *responses[number + 1 :]])


@settings(max_examples=100)
@given(data=st.data())
def test_answers_in_another_order_are_an_error_or_go_unnoticed(
    recordings: list[tuple[Scenario, list[bytes]]], data: st.DataObject
) -> None:
    scenario, _ = data.draw(st.sampled_from(recordings))
    everything = [response for _, responses in recordings for response in responses]
    answers = data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=20))

    play_back(scenario, answers)
