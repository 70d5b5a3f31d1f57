"""The client against a real software TPM."""

import hashlib
import os
import termios
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tccp.core.tpm_public import tpm_public_check_ak, tpm_public_check_ek, tpm_public_parse
from tccp.errors import TpmError
from tccp.model import PcrBank, PcrSelection
from tccp.tpm import KeyKind, Tpm, nv, open_tpm, parse_tcti
from tccp.tpm.channel import Channel
from tccp.tpm.constants import CommandCode, Handle, HandleRange
from tccp.tpm.objects import create_primary, flush, flush_surely
from tccp.tpm.structures import parse_attest
from tccp.tpm.tcti import Connection
from tccp.tpm.templates import AK_TEMPLATES
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.tpm2_tools import Tpm2Tools
from tests.tpm.meddling import open_meddled, pump

ALL_PCRS = PcrSelection(PcrBank.SHA256, tuple(range(24)))
NONCE = hashlib.sha256(b"nonce").digest()
# TPM2_PCR_Extend of PCR 10 with a SHA-256 digest and the empty password, as bytes.
EXTEND_PCR_10 = bytes.fromhex(
    "8002 00000041 00000182 0000000a 00000009 40000009 0000 01 0000 00000001 000b" + 32 * "ab"
)


async def slots_taken(tcti: str) -> list[int]:
    """The transient objects and sessions in the TPM, seen by a client that flushes nothing."""
    channel = Channel(await parse_tcti(tcti).connect(), timeout_s=90)
    try:
        return [
            handle
            for first in (HandleRange.TRANSIENT, HandleRange.LOADED_SESSION)
            for handle in await nv.list_handles(channel, first)
        ]
    finally:
        await channel.aclose()


# ---- keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "algorithm"), [(None, "p384"), ("ecc", "p384"), ("rsa", "rsa2048")])
async def test_the_ek_comes_with_the_certificate_of_its_maker(
    kind: KeyKind | None, algorithm: str, soft_tpm: SoftTpm
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek(kind=kind)

    assert ek.certificate is not None
    public = tpm_public_parse(ek.public)
    assert public.algorithm == algorithm
    assert public.spki in ek.certificate
    tpm_public_check_ek(public)


@pytest.mark.parametrize(("kind", "algorithm"), [("ecc", "p256"), ("rsa", "rsa2048")])
async def test_the_ak_is_a_restricted_signing_key_and_survives_a_power_cycle(
    kind: KeyKind, algorithm: str, soft_tpm: SoftTpm
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        before = await tpm.create_ak(kind)
    soft_tpm.reset()
    async with open_tpm(soft_tpm.tcti) as tpm:
        after = await tpm.create_ak(kind)

    assert before.public == after.public
    public = tpm_public_parse(before.public)
    assert public.algorithm == algorithm
    assert public.name == before.name
    tpm_public_check_ak(public)


async def test_two_tpms_have_different_keys(soft_tpms: SoftTpmPool) -> None:
    keys = set()
    with soft_tpms.lend() as one, soft_tpms.lend() as other:
        for soft_tpm in (one, other):
            async with open_tpm(soft_tpm.tcti) as tpm:
                keys |= {(await tpm.read_ek()).public, (await tpm.create_ak()).public}

    assert len(keys) == 4


async def test_a_flushed_key_is_gone(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak()
        await tpm.flush(ak.handle)

        with pytest.raises(TpmError, match="tpm_rc_"):
            await tpm.quote(ak, NONCE, ALL_PCRS)


async def test_flushing_a_persistent_ek_leaves_it_in_place(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek()
        await tpm.flush(ek.handle)

        assert await tpm.read_ek() == ek


@pytest.mark.parametrize("size", [1025, 70000])
async def test_an_oversized_credential_never_reaches_the_tpm(size: int, soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek, ak = await tpm.read_ek(), await tpm.create_ak()

        with pytest.raises(TpmError, match="credential_too_large"):
            await tpm.activate_credential(ak, ek, bytes(size), b"")
        with pytest.raises(TpmError, match="credential_too_large"):
            await tpm.activate_credential(ak, ek, b"", bytes(size))


@pytest.mark.parametrize("garbage", [b"", b"\0", bytes(100), b"\xff" * 1024])
async def test_a_garbage_credential_is_refused_by_the_tpm(garbage: bytes, soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek, ak = await tpm.read_ek(), await tpm.create_ak()

        with pytest.raises(TpmError, match="tpm_rc_"):
            await tpm.activate_credential(ak, ek, garbage, garbage)

        await tpm.read_clock()  # the control: it works on


# ---- PCRs and quotes -------------------------------------------------------------------------------------------


async def test_an_extended_pcr_holds_the_hash_of_old_and_new(soft_tpm: SoftTpm) -> None:
    digest = hashlib.sha384(b"a kernel").digest()
    selection = PcrSelection.of(PcrBank.SHA384, [8, 9])
    async with open_tpm(soft_tpm.tcti) as tpm:
        await tpm.extend_pcr(8, PcrBank.SHA384, digest)
        pcrs = await tpm.read_pcrs(selection)

    assert pcrs.values == {8: hashlib.sha384(bytes(48) + digest).digest(), 9: bytes(48)}


async def test_a_bank_that_is_not_kept_is_named(soft_tpm: SoftTpm) -> None:
    selection = PcrSelection.of(PcrBank.SHA1, [0])
    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak()
        for attempt in (tpm.read_pcrs(selection), tpm.quote(ak, NONCE, selection)):
            with pytest.raises(TpmError, match="pcr_bank_inactive: the TPM keeps no sha1 PCRs"):
                await attempt
        assert await tpm.pcr_banks() == (PcrBank.SHA256, PcrBank.SHA384)


def extending_before(code: CommandCode, times: int) -> Callable[[Connection, CommandCode], Awaitable[None]]:
    """Extend PCR 10 just before the first *times* commands *code*."""
    left = [times]

    async def before(connection: Connection, coming: CommandCode) -> None:
        if coming == code and left[0]:
            left[0] -= 1
            await connection.send(EXTEND_PCR_10)
            assert (await connection.receive())[6:10] == bytes(4)

    return before


@pytest.mark.parametrize("code", [CommandCode.QUOTE, CommandCode.PCR_READ])
async def test_a_quote_and_its_values_agree_although_a_pcr_is_extended_between_them(
    code: CommandCode, soft_tpm: SoftTpm
) -> None:
    async with open_meddled(soft_tpm.tcti, extending_before(code, 5)) as tpm:
        ak = await tpm.create_ak()
        quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, ALL_PCRS)

    assert hashlib.sha256(pcrs.concatenated).digest() == parse_attest(quote.attest).digest
    assert pcrs.values[10] != bytes(32)


async def test_without_the_second_try_quote_and_values_would_disagree(soft_tpm: SoftTpm) -> None:
    """The control of the test above."""
    async with open_meddled(soft_tpm.tcti, extending_before(CommandCode.QUOTE, 1)) as tpm:
        ak = await tpm.create_ak()
        pcrs = await tpm.read_pcrs(ALL_PCRS)
        quote = await tpm.quote(ak, NONCE, ALL_PCRS)

    assert hashlib.sha256(pcrs.concatenated).digest() != parse_attest(quote.attest).digest


@pytest.mark.parametrize("code", [CommandCode.QUOTE, CommandCode.PCR_READ])
async def test_pcrs_that_never_rest_are_given_up(code: CommandCode, soft_tpm: SoftTpm) -> None:
    async with open_meddled(soft_tpm.tcti, extending_before(code, 1000)) as tpm:
        ak = await tpm.create_ak()

        with pytest.raises(TpmError, match="pcrs_keep_changing"):
            await tpm.quote_with_pcrs(ak, NONCE, ALL_PCRS)


# ---- the rest --------------------------------------------------------------------------------------------------


async def test_a_power_cycle_is_counted(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        before = await tpm.read_clock()
    soft_tpm.reset()
    async with open_tpm(soft_tpm.tcti) as tpm:
        after = await tpm.read_clock()

    assert after.reset_count == before.reset_count + 1
    assert after.clock_ms >= before.clock_ms
    assert after.safe


async def test_the_counts_in_a_quote_are_not_obfuscated(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        quote = await tpm.quote(await tpm.create_ak(), NONCE, ALL_PCRS)
        clock = await tpm.read_clock()

    after_extra_data = quote.attest.index(NONCE) + len(NONCE)
    assert quote.attest[after_extra_data + 8 : after_extra_data + 12] == clock.reset_count.to_bytes(4, "big")


async def test_values_that_no_tpm_takes_are_our_own_fault(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(ValueError, match="32 bytes"):
            await tpm.extend_pcr(0, PcrBank.SHA256, bytes(20))


async def test_many_tasks_share_one_tpm(soft_tpm: SoftTpm) -> None:
    quotes = {}

    async def quote(tpm: Tpm, number: int) -> None:
        nonce = hashlib.sha256(bytes([number])).digest()
        quotes[nonce] = (await tpm.quote_with_pcrs(ak, nonce, ALL_PCRS))[0].attest

    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(quote, tpm, number)

    assert len(quotes) == 20
    assert all(nonce in attest for nonce, attest in quotes.items())


# ---- slots, cancellation, loss ---------------------------------------------------------------------------------


async def leave_three_keys_behind(tcti: str) -> None:
    channel = Channel(await parse_tcti(tcti).connect(), timeout_s=90)
    for _ in range(3):
        await create_primary(channel, Handle.ENDORSEMENT, AK_TEMPLATES["ecc"])
    await channel.aclose()


async def test_what_earlier_clients_left_is_flushed(soft_tpm: SoftTpm) -> None:
    await leave_three_keys_behind(soft_tpm.tcti)

    async with open_tpm(soft_tpm.tcti) as tpm:
        await tpm.create_ak()


async def test_without_the_flush_no_slot_would_be_free(soft_tpm: SoftTpm) -> None:
    """The control of the test above."""
    await leave_three_keys_behind(soft_tpm.tcti)

    channel = Channel(await parse_tcti(soft_tpm.tcti).connect(), timeout_s=90)
    with pytest.raises(TpmError, match="tpm_rc_object_memory") as caught:
        await create_primary(channel, Handle.ENDORSEMENT, AK_TEMPLATES["ecc"])
    await channel.aclose()

    assert "device:/dev/tpmrm0" in caught.value.hint


async def test_a_client_leaves_no_slot_taken(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        await tpm.create_ak("ecc")
        await tpm.create_ak("rsa")

    assert await slots_taken(soft_tpm.tcti) == []


@pytest.mark.parametrize("strike_at", range(1, 12))
async def test_cancellation_before_any_command_leaves_no_slot_taken(
    strike_at: int, soft_tpm: SoftTpm, tmp_path: Path
) -> None:
    tools = Tpm2Tools(soft_tpm, tmp_path)
    tools.run("evictcontrol", "-C", "o", "-c", "0x81010001")
    commands = 0
    scope = trio.CancelScope()

    async def strike(_connection: Connection, _code: CommandCode) -> None:
        nonlocal commands
        commands += 1
        if commands == strike_at:
            scope.cancel()

    with scope:
        async with open_meddled(soft_tpm.tcti, strike) as tpm:
            ak = await tpm.create_ak()
            ek = await tpm.read_ek(kind="rsa")
            credential = tools.make_credential(ek.public, ak.name, NONCE)
            await tpm.activate_credential(ak, ek, *credential)

    assert scope.cancelled_caught
    assert await slots_taken(soft_tpm.tcti) == []


@pytest.mark.parametrize(("give_back", "left"), [(flush_surely, 0), (flush, 1)], ids=["shielded", "control"])
async def test_a_slot_is_given_back_although_the_task_is_cancelled(
    give_back: Callable[[Channel, int], Awaitable[None]], left: int, soft_tpm: SoftTpm
) -> None:
    channel = Channel(await parse_tcti(soft_tpm.tcti).connect(), timeout_s=90)
    key = await create_primary(channel, Handle.ENDORSEMENT, AK_TEMPLATES["ecc"])
    with trio.CancelScope() as scope:
        scope.cancel()
        await give_back(channel, key.handle)
    await channel.aclose()

    assert len(await slots_taken(soft_tpm.tcti)) == left


async def test_a_tpm_that_is_killed_while_it_works_is_gone(soft_tpm: SoftTpm) -> None:
    async def create_rsa_ak(tpm: Tpm) -> None:
        with pytest.raises(TpmError, match="tpm_gone"):
            await tpm.create_ak("rsa")

    async with open_tpm(soft_tpm.tcti) as tpm, trio.open_nursery() as nursery:
        nursery.start_soon(create_rsa_ak, tpm)
        await wait_all_tasks_blocked()
        soft_tpm.kill()


async def test_a_tpm_that_was_killed_is_gone_for_every_later_command(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        soft_tpm.kill()

        for _ in range(2):
            with pytest.raises(TpmError, match="tpm_gone"):
                await tpm.read_clock()


async def test_a_second_client_is_told_why_nobody_answers(soft_tpm: SoftTpm, mock_clock: MockClock) -> None:
    async def be_second() -> None:
        with pytest.raises(TpmError, match="tpm_timeout") as caught:
            async with open_tpm(soft_tpm.tcti):
                pass
        assert "one client" in caught.value.hint

    async with open_tpm(soft_tpm.tcti), trio.open_nursery() as nursery:
        nursery.start_soon(be_second)
        await wait_all_tasks_blocked()
        mock_clock.jump(11)


# ---- other ways to a TPM ---------------------------------------------------------------------------------------


async def test_a_tpm_is_reached_over_tcp(soft_tpm: SoftTpm) -> None:
    async def relay(client: trio.SocketStream) -> None:
        data = await trio.open_unix_socket(soft_tpm.socket_path)
        async with data, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, data)
            await pump(data, client)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, relay, [listener])
        async with open_tpm(f"swtpm:host=127.0.0.1,port={listener.socket.getsockname()[1]}") as tpm:
            assert (await tpm.properties()).manufacturer == "IBM"
        nursery.cancel_scope.cancel()


async def test_a_tpm_is_reached_through_a_character_device(soft_tpm: SoftTpm) -> None:
    """A terminal in raw mode carries bytes as the TPM's driver does, but for the driver's message borders."""
    ours, device = os.openpty()
    tty.setraw(device, termios.TCSANOW)
    data = await trio.open_unix_socket(soft_tpm.socket_path)
    async with data, trio.lowlevel.FdStream(ours) as terminal, trio.open_nursery() as nursery:
        nursery.start_soon(pump, terminal, data)
        nursery.start_soon(pump, data, terminal)
        async with open_tpm(f"device:{os.ttyname(device)}") as tpm:
            ak = await tpm.create_ak()
            quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, ALL_PCRS)
        nursery.cancel_scope.cancel()
    os.close(device)

    assert hashlib.sha256(pcrs.concatenated).digest() == parse_attest(quote.attest).digest
