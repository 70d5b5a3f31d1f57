"""Logs that are no logs, contradict themselves, end early or could be read in two ways.

Where a rule is attacked, a control beside it shows what the same bytes would give without that rule.
"""

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.attestation.event_log import (
    LogEnding,
    replay_event_log,
    salvage_event_log,
)
from tccp.errors import EventLogError
from tccp.model import PcrBank
from tests.support.event_logs import (
    EV_EFI_ACTION,
    EV_IPL,
    EV_NO_ACTION,
    EV_S_CRTM_VERSION,
    EV_SEPARATOR,
    EXIT_BOOT_SERVICES,
    HONEST,
    REAL,
    SEPARATOR,
    SHA1,
    SHA256,
    SHA384,
    ending,
    event,
    explains,
    header,
    legacy_event,
    no_action,
    quoted,
    raw_event,
    replay_by_hand,
    sha256,
    spec_id,
)

# ---- structure ----------------------------------------------------------------------------------------------------


def bad_header(data: bytes) -> bytes:
    return legacy_event(0, EV_NO_ACTION, data, bytes(20))


@pytest.mark.parametrize(
    "data",
    [
        spec_id([]),
        spec_id([(SHA256, 32)] * 2),
        spec_id([(SHA256, 20)]),
        spec_id([(SHA1, 32)]),
        spec_id([(0x99, 0)]),
        spec_id([(0x99, 65)]),
        spec_id([(0x100 + number, 20) for number in range(17)]),
        spec_id([(SHA256, 32)], count=2**32 - 1),
        spec_id([(SHA256, 32)], count=2),
        spec_id([(SHA256, 32)], vendor=b"\1"),
        spec_id([(SHA256, 32)], vendor=b"\0\0"),
        spec_id([(SHA256, 32)], vendor=b""),
    ],
    ids=[
        "no bank",
        "a bank twice",
        "SHA-256 of 20 bytes",
        "SHA-1 of 32 bytes",
        "empty digests",
        "digests of 65 bytes",
        "17 banks",
        "2^32-1 banks",
        "one bank too many",
        "vendor data past the end",
        "a byte too many",
        "no vendor size",
    ],
)
def test_a_header_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(EventLogError, match="malformed"):
        salvage_event_log(bad_header(data) + SEPARATOR)


def test_a_lie_about_a_digest_s_size_would_give_the_same_bytes_two_meanings() -> None:
    # The control for the sizes above, with an algorithm that we do not know: there the header is all we have.
    digest = bytes(20) + struct.pack("<I", 8 + 4 + len(b"harmless")) + bytes(8)
    body = raw_event(4, EV_EFI_ACTION, [(0x99, digest)], b"harmless")

    told = replay_event_log(bad_header(spec_id([(0x99, 32)])) + body)
    twisted = replay_event_log(bad_header(spec_id([(0x99, 20)])) + body)

    assert told.events[0].claimed_data == b"harmless"
    assert twisted.events[0].claimed_data == bytes(8) + struct.pack("<I", 8) + b"harmless"


def test_unknown_algorithms_are_skipped_by_their_declared_size() -> None:
    log = bad_header(spec_id([(0x12, 32), (SHA256, 32)])) + raw_event(
        0, EV_SEPARATOR, [(0x12, b"\x11" * 32), (SHA256, sha256(bytes(4)))], bytes(4)
    )

    replayed = replay_event_log(log)

    assert replayed.banks == (SHA256,)
    assert replayed.pcr(SHA256, 0) == replay_by_hand(SHA256, [sha256(bytes(4))])


def test_an_event_with_two_digests_for_one_bank_is_refused() -> None:
    digest = sha256(bytes(4))
    twice = raw_event(0, EV_SEPARATOR, [(SHA256, digest), (SHA256, digest)], bytes(4))
    once = raw_event(0, EV_SEPARATOR, [(SHA256, digest)], bytes(4))

    assert ending(header(SHA1, SHA256) + twice) is LogEnding.BAD_DIGESTS
    assert ending(header(SHA1, SHA256) + once) is LogEnding.CLEAN  # the control: one of the two may be missing


def test_a_second_header_is_refused() -> None:
    again = no_action(spec_id([(SHA384, 48)]))
    late = legacy_event(0, EV_NO_ACTION, spec_id([(SHA256, 32)]), bytes(20))

    assert ending(HONEST + again) is LogEnding.SECOND_HEADER
    assert ending(legacy_event(0, EV_SEPARATOR, bytes(4)) + late) is LogEnding.SECOND_HEADER


def test_a_legacy_log_with_a_crypto_agile_body_is_refused() -> None:
    old = legacy_event(0, EV_NO_ACTION, b"Spec ID Event02\0" + bytes(12), bytes(20))

    assert ending(old + HONEST[len(header(SHA256)) :]).is_damage
    assert ending(old + legacy_event(0, EV_SEPARATOR, bytes(4))) is LogEnding.CLEAN  # the control: as it should be


def test_a_crypto_agile_log_with_a_legacy_body_is_refused() -> None:
    assert ending(header(SHA256) + legacy_event(0, EV_SEPARATOR, bytes(4))).is_damage


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (event(24, EV_SEPARATOR, bytes(4)), LogEnding.BAD_PCR),
        (event(0xFFFFFFFF, EV_SEPARATOR, bytes(4)), LogEnding.BAD_PCR),
        (no_action(b"", pcr=0xFFFFFFFE), LogEnding.BAD_PCR),
        (raw_event(0, EV_SEPARATOR, [], b"data"), LogEnding.BAD_DIGESTS),
        (raw_event(0, EV_SEPARATOR, [(SHA256, bytes(32))] * 2, b"data"), LogEnding.BAD_DIGESTS),
        (raw_event(0, EV_SEPARATOR, [(SHA384, bytes(48))], b"data"), LogEnding.BAD_DIGESTS),
        (struct.pack("<III", 0, EV_SEPARATOR, 2**32 - 1) + bytes(64), LogEnding.BAD_DIGESTS),
        (struct.pack("<III", 0, EV_SEPARATOR, 17) + b"\x0b\x00" * 64, LogEnding.BAD_DIGESTS),
        (SEPARATOR[:-8] + struct.pack("<I", 2**32 - 1) + b"data", LogEnding.TRUNCATED),
        (SEPARATOR[:-8] + struct.pack("<I", len(SEPARATOR) + 5) + b"data", LogEnding.TRUNCATED),
        (b"\0\0\0\0trailing garbage", LogEnding.BAD_DIGESTS),
        (b"garbage!", LogEnding.BAD_PCR),
    ],
    ids=[
        "PCR 24",
        "PCR 2^32-1",
        "no action in PCR 2^32-2",
        "no digest",
        "a bank twice",
        "an undeclared bank",
        "2^32-1 digests",
        "17 digests",
        "2^32-1 bytes of data",
        "a byte of data too many",
        "garbage in PCR 0",
        "garbage",
    ],
)
def test_damage_is_found_where_it_is_and_nothing_after_it_counts(bad: bytes, expected: LogEnding) -> None:
    salvaged = salvage_event_log(HONEST + bad + SEPARATOR)

    assert ending(HONEST + bad + SEPARATOR) is expected
    assert salvaged.consumed_bytes == len(HONEST)
    assert salvaged.pcrs(SHA256) == replay_event_log(HONEST).pcrs(SHA256)


def test_a_reason_for_the_peer_and_the_place_for_us() -> None:
    with pytest.raises(EventLogError) as refusal:
        replay_event_log(HONEST + event(24, EV_SEPARATOR, bytes(4)))

    assert refusal.value.reason == "malformed"
    assert refusal.value.detail == f"event 12, at byte {len(HONEST)}: an event in a PCR that no TPM has"


@pytest.mark.parametrize("padding", [b"\0", b"\xff", bytes(4096), b"\xff" * 4096], ids=["00", "ff", "00..", "ff.."])
def test_padding_is_accepted_only_when_nothing_follows_it(padding: bytes) -> None:
    assert ending(HONEST + padding) is (LogEnding.PADDED_ONES if padding[0] else LogEnding.PADDED_ZEROS)
    assert explains(HONEST + padding, quoted(HONEST)) is not None
    assert ending(HONEST + padding + b"\1").is_damage
    assert ending(HONEST + bytes(32) + b"\xff" * 32).is_damage


def test_a_log_may_not_be_larger_than_four_mebibytes() -> None:
    largest = 4 * 1024 * 1024

    assert ending(HONEST + bytes(largest - len(HONEST))) is LogEnding.PADDED_ZEROS
    with pytest.raises(EventLogError, match="too_large"):
        salvage_event_log(HONEST + bytes(largest - len(HONEST) + 1))


def test_a_log_may_not_have_more_than_65536_events() -> None:
    one = legacy_event(0, EV_SEPARATOR, b"\1")

    assert len(replay_event_log(one * 65536)) == 65536
    with pytest.raises(EventLogError, match="too_large"):
        salvage_event_log(one * 65537)


def test_nothing_at_all_is_no_log() -> None:
    with pytest.raises(EventLogError, match="truncated"):
        replay_event_log(b"")


# ---- anything -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=len(HONEST) - 1))
def test_a_log_cut_anywhere_explains_nothing(cut: int) -> None:
    assert explains(HONEST[:cut], quoted(HONEST)) is None


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=len(REAL) - 1))
def test_a_real_log_cut_anywhere_explains_nothing(cut: int) -> None:
    assert explains(REAL[:cut], quoted(REAL)) is None


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=len(HONEST) - 1), st.integers(min_value=1, max_value=255))
def test_no_changed_byte_gives_other_digests_for_the_same_pcrs(position: int, change: int) -> None:
    altered = bytearray(HONEST)
    altered[position] ^= change
    honest = explains(HONEST, quoted(HONEST))
    assert honest is not None

    explained = explains(bytes(altered), quoted(HONEST))

    if explained is not None:
        told = [(entry.event.pcr, entry.digest) for entry in explained.events]
        assert told == [(entry.event.pcr, entry.digest) for entry in honest.events]
        for entry, before in zip(explained.events, honest.events, strict=True):
            assert entry.measured is None or sha256(entry.measured) == before.digest


@settings(deadline=None)
@given(st.binary(max_size=512))
def test_garbage_after_a_header_gives_event_log_error_and_nothing_else(garbage: bytes) -> None:
    for start in (b"", header(SHA256), header(SHA1, SHA384), HONEST):
        try:
            log = salvage_event_log(start + garbage)
        except EventLogError:
            continue
        for entry in log.events:
            entry.content()


WELL_FORMED = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=23),
        st.sampled_from([EV_SEPARATOR, EV_IPL, EV_S_CRTM_VERSION, EV_EFI_ACTION, 0x80000002, 0x80000003]),
        st.binary(max_size=60) | st.just(b"grub_cmd: set x=1\0") | st.just(EXIT_BOOT_SERVICES),
        st.sets(st.sampled_from([SHA1, SHA256, SHA384]), min_size=1),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(WELL_FORMED)
def test_any_well_formed_log_is_replayed_as_by_hand(told: list[tuple[int, int, bytes, set[PcrBank]]]) -> None:
    raw = header(SHA1, SHA256, SHA384) + b"".join(event(pcr, kind, data, *banks) for pcr, kind, data, banks in told)

    log = replay_event_log(raw)

    assert len(log) == len(told)
    launched = any(17 <= pcr <= 22 for pcr, *_ in told)
    for bank in (SHA1, SHA256, SHA384):
        for index in range(24):
            start = bytes(bank.digest_bytes)
            if 17 <= index <= 22 and not launched:
                start = b"\xff" * bank.digest_bytes
            digests = [
                hashlib.new(bank.hash_name, data).digest()
                for pcr, _, data, banks in told
                if pcr == index and bank in banks
            ]
            assert log.pcr(bank, index) == replay_by_hand(bank, digests, start)
            assert (index in log.extended(bank)) == bool(digests)
