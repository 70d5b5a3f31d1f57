"""Framing, time-outs, resending and cancellation, against TPMs that misbehave."""

import contextlib

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tccp.errors import TpmError
from tccp.tpm.channel import PASSWORD, Channel
from tccp.tpm.constants import CommandCode
from tccp.tpm.marshal import u32
from tccp.tpm.tcti import StreamConnection
from tests.tpm.fake_tpm import SESSIONS, Misbehave, answering, response, serve

READ_CLOCK = CommandCode.READ_CLOCK
QUOTE = CommandCode.QUOTE
GOOD_CLOCK = response(bytes(25))
PASSWORD_ANSWER = bytes(2) + b"\1" + bytes(2)


async def exchange(misbehave: Misbehave, code: CommandCode = READ_CLOCK, sessions: int = 0) -> bytes:
    """One command to a TPM that does *misbehave*; the parameters of the answer."""
    ours, theirs = memory_stream_pair()
    outcome: bytes | TpmError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, misbehave)
        channel = Channel(StreamConnection(ours), timeout_s=90)
        try:
            outcome = (await channel.command(code, sessions=(PASSWORD,) * sessions)).parameters.rest()
        except TpmError as error:
            outcome = error
        await channel.aclose()
        nursery.cancel_scope.cancel()
    if isinstance(outcome, TpmError):
        raise outcome
    return outcome


NO_ANSWERS = {
    "an unknown tag": (response(tag=0x8003), "tpm_malformed_response"),
    "no tag": (response(tag=0), "tpm_malformed_response"),
    "shorter than its header": (response(size=9), "tpm_malformed_response"),
    "of no size": (response(size=0), "tpm_malformed_response"),
    "too long": (response(size=4097), "tpm_malformed_response"),
    "as long as can be": (response(size=0xFFFFFFFF), "tpm_malformed_response"),
    "longer than it says": (response(b"x", size=10), "tpm_malformed_response"),
    "an error with sessions": (response(code=0x101, tag=SESSIONS), "tpm_malformed_response"),
    "an error with a body": (response(b"x", code=0x101), "tpm_malformed_response"),
    "sessions that we did not open": (response(tag=SESSIONS), "tpm_malformed_response"),
    "two answers": (GOOD_CLOCK + GOOD_CLOCK, "tpm_malformed_response"),
    "an older TPM": (response(tag=0x00C4, code=0x1E), "tpm_is_version_1_2"),
    "failure mode": (response(code=0x101), "tpm_rc_failure"),
    "a wrong handle": (response(code=0x18B), "tpm_rc_handle"),
    "a wrong password": (response(code=0x9A2), "tpm_rc_bad_auth"),
    "a code without a name": (response(code=0x1D3), "tpm_rc_0x1d3"),
}


@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_an_answer_that_is_none_has_a_reason(what: str) -> None:
    answer, reason = NO_ANSWERS[what]

    with pytest.raises(TpmError) as caught:
        await exchange(answering(answer))

    assert caught.value.reason == reason


WRONG_SUMS = {
    "no authorization at all": response(bytes(25)),
    "parameters that end too early": response(u32(3) + b"ab" + PASSWORD_ANSWER, tag=SESSIONS),
    "endless parameters": response(u32(0xFFFFFFFF) + PASSWORD_ANSWER, tag=SESSIONS),
    "one byte too many": response(u32(2) + b"ab" + PASSWORD_ANSWER + b"x", tag=SESSIONS),
    "an authorization too few": response(u32(2) + b"ab", tag=SESSIONS),
    "no size of parameters": response(b"ab", tag=SESSIONS),
}


@pytest.mark.parametrize("what", WRONG_SUMS)
async def test_authorizations_of_an_answer_must_add_up(what: str) -> None:
    with pytest.raises(TpmError, match="tpm_malformed_response"):
        await exchange(answering(WRONG_SUMS[what]), QUOTE, sessions=1)


async def test_the_parameters_are_what_stands_between_handles_and_authorizations() -> None:
    answer = response(u32(2) + b"ab" + PASSWORD_ANSWER, tag=SESSIONS)

    assert await exchange(answering(answer), QUOTE, sessions=1) == b"ab"


async def test_an_answer_may_come_byte_by_byte() -> None:
    async def drip(stream: trio.abc.Stream, _command: bytes) -> None:
        for position in range(len(GOOD_CLOCK)):
            await stream.send_all(GOOD_CLOCK[position : position + 1])

    assert await exchange(drip) == bytes(25)


async def test_a_tpm_that_hangs_up_is_gone() -> None:
    async def hang_up(stream: trio.abc.Stream, _command: bytes) -> None:
        await stream.send_all(GOOD_CLOCK[:12])
        await stream.aclose()

    with pytest.raises(TpmError, match="tpm_gone"):
        await exchange(hang_up)


async def test_silence_ends_with_the_time_out(autojump_clock: MockClock) -> None:
    async def say_nothing(_stream: trio.abc.Stream, _command: bytes) -> None:
        pass

    with pytest.raises(TpmError, match="tpm_timeout"):
        await exchange(say_nothing)

    assert trio.current_time() == pytest.approx(90)


async def test_a_dripping_answer_does_not_prolong_the_time_out(autojump_clock: MockClock) -> None:
    async def drip_for_ever(stream: trio.abc.Stream, _command: bytes) -> None:
        await stream.send_all(response(size=4096))
        while True:
            await trio.sleep(1)
            await stream.send_all(b"x")

    with pytest.raises(TpmError, match="tpm_timeout"):
        await exchange(drip_for_ever)

    assert trio.current_time() == pytest.approx(90)


async def test_an_endless_answer_is_cut_off() -> None:
    async def pour(stream: trio.abc.Stream, _command: bytes) -> None:
        while True:
            await stream.send_all(b"\x80\x01" * 2048)

    with pytest.raises(TpmError, match="tpm_malformed_response"):
        await exchange(pour)


@pytest.mark.parametrize("code", [0x922, 0x908, 0x90A])
async def test_a_busy_tpm_is_asked_again(code: int, autojump_clock: MockClock) -> None:
    busy = response(code=code)

    assert await exchange(answering(busy, busy, busy, GOOD_CLOCK)) == bytes(25)


async def test_a_tpm_that_stays_busy_is_given_up(autojump_clock: MockClock) -> None:
    asked = 0

    async def be_busy(stream: trio.abc.Stream, _command: bytes) -> None:
        nonlocal asked
        asked += 1
        await stream.send_all(response(code=0x922))

    with pytest.raises(TpmError, match="tpm_rc_retry"):
        await exchange(be_busy)

    assert asked == 20


async def test_cancellation_waits_for_the_answer_on_its_way() -> None:
    ours, theirs = memory_stream_pair()
    asked, may_answer = trio.Event(), trio.Event()
    answers = [response(b"first"), response(b"second")]

    async def answer_late(stream: trio.abc.Stream, _command: bytes) -> None:
        asked.set()
        await may_answer.wait()
        await stream.send_all(answers.pop(0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answer_late)
        channel = Channel(StreamConnection(ours), timeout_s=90)

        async with trio.open_nursery() as doomed:
            doomed.start_soon(channel.command, READ_CLOCK)
            await asked.wait()
            doomed.cancel_scope.cancel()
            may_answer.set()

        answer = await channel.command(READ_CLOCK)
        assert answer.parameters.rest() == b"second"
        nursery.cancel_scope.cancel()


async def test_without_the_shield_the_next_command_would_read_the_last_ones_answer() -> None:
    """The control of the test above: the same steps on the bare connection go wrong."""
    ours, theirs = memory_stream_pair()
    asked, may_answer = trio.Event(), trio.Event()
    answers = [response(b"first"), response(b"second")]
    command = response(size=10)

    async def answer_late(stream: trio.abc.Stream, _command: bytes) -> None:
        asked.set()
        await may_answer.wait()
        await stream.send_all(answers.pop(0))

    async def exchange_without_shield() -> bytes:
        await ours.send_all(command)
        return bytes(await ours.receive_some(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answer_late)
        async with trio.open_nursery() as doomed:
            doomed.start_soon(exchange_without_shield)
            await asked.wait()
            doomed.cancel_scope.cancel()
            may_answer.set()

        await wait_all_tasks_blocked()
        assert (await exchange_without_shield()).startswith(response(b"first"))
        nursery.cancel_scope.cancel()


async def test_who_waits_for_the_tpm_can_be_cancelled() -> None:
    ours, theirs = memory_stream_pair()
    commands: list[bytes] = []
    may_answer = trio.Event()

    async def answer_late(stream: trio.abc.Stream, command: bytes) -> None:
        commands.append(command)
        await may_answer.wait()
        await stream.send_all(GOOD_CLOCK)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answer_late)
        channel = Channel(StreamConnection(ours), timeout_s=90)
        async with trio.open_nursery() as both:
            both.start_soon(channel.command, READ_CLOCK)
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as doomed:
                doomed.start_soon(channel.command, READ_CLOCK)
                await wait_all_tasks_blocked()
                doomed.cancel_scope.cancel()
            may_answer.set()
        nursery.cancel_scope.cancel()

    assert len(commands) == 1


@pytest.mark.parametrize("failure", [answering(response(tag=0)), answering(GOOD_CLOCK + b"x")])
async def test_after_nonsense_the_channel_stays_closed(failure: Misbehave) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, failure)
        channel = Channel(StreamConnection(ours), timeout_s=90)
        with pytest.raises(TpmError, match="tpm_malformed_response"):
            await channel.command(READ_CLOCK)

        with pytest.raises(TpmError, match="tpm_gone"):
            await channel.command(READ_CLOCK)

        assert channel.closed
        nursery.cancel_scope.cancel()


async def test_a_refusal_leaves_the_channel_open() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answering(response(code=0x101), GOOD_CLOCK))
        channel = Channel(StreamConnection(ours), timeout_s=90)
        with pytest.raises(TpmError, match="tpm_rc_failure"):
            await channel.command(READ_CLOCK)

        assert (await channel.command(READ_CLOCK)).parameters.remaining == 25
        nursery.cancel_scope.cancel()


def run_against(answer: bytes, code: CommandCode, sessions: int) -> None:
    async def say_and_hang_up(stream: trio.abc.Stream, _command: bytes) -> None:
        await stream.send_all(answer)
        await stream.aclose()

    with contextlib.suppress(TpmError):
        trio.run(exchange, say_and_hang_up, code, sessions, clock=MockClock(autojump_threshold=0))


@given(st.binary(max_size=200))
def test_garbage_gives_a_tpm_error_and_nothing_else(garbage: bytes) -> None:
    run_against(garbage, READ_CLOCK, 0)


@given(st.binary(max_size=100), st.sampled_from([READ_CLOCK, QUOTE, CommandCode.CREATE_PRIMARY]), st.integers(0, 2))
def test_garbage_in_a_good_frame_gives_a_tpm_error_and_nothing_else(
    body: bytes, code: CommandCode, sessions: int
) -> None:
    run_against(response(body, tag=SESSIONS if sessions else 0x8001), code, sessions)
