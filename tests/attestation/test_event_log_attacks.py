"""What a host that writes its own log can try, and that none of it is taken for what the TPM measured.

Where an attack aims at a rule, a control beside it shows that the same bytes pass, or mislead, without that rule.
"""

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.attestation.event_data import Action, CrtmVersion, GrubCommand
from tccp.attestation.event_log import (
    ExplainedEventLog,
    LogEnding,
    explain,
    explain_incomplete,
    replay_event_log,
    salvage_event_log,
)
from tccp.errors import EventLogError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.event_logs import (
    EV_EFI_ACTION,
    EV_NO_ACTION,
    EV_SEPARATOR,
    EXIT_BOOT_SERVICES,
    SHA1,
    SHA256,
    SHA384,
    VECTORS,
    complete_log,
    event,
    header,
    legacy_event,
    no_action,
    raw_event,
    replay_by_hand,
    spec_id,
    startup_locality,
)

SEPARATOR = event(0, EV_SEPARATOR, bytes(4))
EV_IPL = 0x0D
EV_S_CRTM_VERSION = 0x08
REAL = (VECTORS / "guard-oss" / "good-1.bin").read_bytes()
HONEST = complete_log(
    startup_locality(3),
    event(0, EV_S_CRTM_VERSION, "v1".encode("utf-16-le")),
    event(8, EV_IPL, b"kernel_cmdline: /vmlinuz ro lockdown=integrity\0", measured=b"/vmlinuz ro lockdown=integrity"),
    *(event(pcr, EV_SEPARATOR, bytes(4)) for pcr in range(8)),
)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def quoted(log: bytes, bank: PcrBank = SHA256, *more: int) -> PcrValues:
    """What a TPM that was extended as *log* says would quote."""
    replayed = replay_event_log(log)
    indexes = {*replayed.extended(bank), *more}
    return PcrValues(PcrSelection.of(bank, indexes), {index: replayed.pcr(bank, index) for index in indexes})


def explains(log: bytes, pcrs: PcrValues) -> ExplainedEventLog | None:
    """The explanation, or None where the log is refused."""
    try:
        return explain(replay_event_log(log), pcrs)
    except EventLogError:
        return None


def ending(log: bytes) -> LogEnding:
    """How a log ends, with the control that the strict reader agrees on what is damage."""
    salvaged = salvage_event_log(log)
    if salvaged.ending.is_damage:
        with pytest.raises(EventLogError, match=r"truncated|malformed"):
            replay_event_log(log)
        with pytest.raises(EventLogError, match="event_log_damaged"):
            explain(salvaged, quoted(HONEST))
    else:
        replay_event_log(log)
    return salvaged.ending


# ---- digests --------------------------------------------------------------------------------------------------------


def test_no_bit_of_a_digest_can_be_changed() -> None:
    pcrs = quoted(REAL)
    events = replay_event_log(REAL).events
    assert explains(REAL, pcrs) is not None

    for entry in events:
        if entry.extends:
            where = REAL.index(entry.digests[SHA256])
            altered = bytearray(REAL)
            altered[where] ^= 1
            assert explains(bytes(altered), pcrs) is None


def test_events_cannot_be_left_out_repeated_or_reordered() -> None:
    first, second = (event(4, EV_EFI_ACTION, text) for text in (b"one", b"two"))
    pcrs = quoted(complete_log(first, second))

    assert explains(complete_log(first, second), pcrs) is not None
    assert explains(complete_log(first), pcrs) is None
    assert explains(complete_log(first, second, second), pcrs) is None
    assert explains(complete_log(second, first), pcrs) is None


def test_an_event_cannot_be_moved_to_another_pcr() -> None:
    pcrs = quoted(complete_log(event(4, EV_EFI_ACTION, b"one")), SHA256, 6)

    with pytest.raises(EventLogError, match=r"event_log_mismatch.*: 4, 6$"):
        explain(replay_event_log(complete_log(event(6, EV_EFI_ACTION, b"one"))), pcrs)


def test_a_pcr_that_the_log_never_extends_must_still_hold_its_reset_value() -> None:
    log = replay_event_log(HONEST)
    kept = quoted(HONEST, SHA256, 9, 17)
    changed = PcrValues(kept.selection, {**kept.values, 9: sha256(b"somebody's module")})

    assert kept.values[9] == bytes(32)
    assert kept.values[17] == b"\xff" * 32
    assert explain(log, kept).is_complete
    with pytest.raises(EventLogError, match=r"event_log_mismatch.*: 9$"):
        explain(log, changed)
    # The control: left out of what must be explained, the change goes unseen, and so does every event in that PCR.
    assert explain(log, changed, set(changed.selection.indexes) - {9}).is_complete


def test_an_event_without_a_digest_in_the_quoted_bank_is_not_explained() -> None:
    hidden = raw_event(4, EV_EFI_ACTION, [(SHA1, hashlib.new(SHA1.hash_name, b"all is well").digest())], b"all is well")
    log = complete_log(hidden, banks=(SHA1, SHA256))

    explained = explains(log, quoted(log))

    assert explained is not None
    assert b"all is well" in {entry.claimed_data for entry in replay_event_log(log).events}
    assert b"all is well" not in {entry.event.claimed_data for entry in explained.events}


def test_a_match_in_another_bank_does_not_vouch_for_data() -> None:
    text = b"Calling EFI Application from Boot Option"
    forged = raw_event(
        4, EV_EFI_ACTION, [(SHA1, hashlib.new(SHA1.hash_name, text).digest()), (SHA256, sha256(b"rootkit.efi"))], text
    )
    log = complete_log(forged, banks=(SHA1, SHA256))

    explained = explains(log, quoted(log))

    assert explained is not None
    assert explained.events[0].measured is None
    assert explained.events[0].event.measured(SHA1) == text  # the control: in the bank that nobody quoted it matches


# ---- types and data -------------------------------------------------------------------------------------------------


def test_relabelling_an_event_changes_no_pcr_and_proves_nothing() -> None:
    text = b"Exit Boot Services Invocation"
    honest = complete_log(event(5, EV_EFI_ACTION, text))
    relabelled = complete_log(event(5, EV_S_CRTM_VERSION, text))

    explained = explains(relabelled, quoted(honest))

    # Both explain the same PCRs: only the type, which nothing covers, tells them apart.
    assert explained is not None
    assert explained.events[0].digest == sha256(text)
    assert explained.events[0].event.content() == CrtmVersion(text.decode())
    assert replay_event_log(honest).events[0].content() == Action(text.decode())


def test_data_that_was_not_measured_is_never_verified() -> None:
    kept = b"/vmlinuz ro lockdown=integrity"
    lie = b"kernel_cmdline: /vmlinuz ro lockdown=integrity\0"
    log = complete_log(event(8, EV_IPL, lie, measured=b"/vmlinuz rw init=/bin/sh"))

    explained = explains(log, quoted(log))

    assert explained is not None
    assert explained.events[0].event.content() == GrubCommand(
        "kernel_cmdline", kept.decode()
    )  # the control: it misleads
    assert explained.events[0].measured is None
    assert not explained.events[0].is_verified


def test_what_grub_hashed_is_measured_and_its_keyword_is_not() -> None:
    explained = explains(HONEST, quoted(HONEST))

    assert explained is not None
    command = explained.events[1]
    assert command.measured == b"/vmlinuz ro lockdown=integrity"
    assert not command.is_verified  # "kernel_cmdline: " could be "grub_cmd: " as well


def test_hiding_an_event_as_no_action_leaves_its_pcr_unexplained() -> None:
    honest = complete_log(event(4, EV_EFI_ACTION, b"one"))
    hidden = complete_log(raw_event(4, EV_NO_ACTION, [(SHA256, sha256(b"one"))], b"one"))

    assert explains(hidden, quoted(honest)) is None


def test_no_action_events_are_never_explained() -> None:
    log = complete_log(no_action(b"SP800-155 Event3" + bytes(30)))

    explained = explains(log, quoted(log, SHA256, 0))

    assert explained is not None
    assert [entry.event.claimed_data for entry in explained.events] == [EXIT_BOOT_SERVICES]


# ---- completeness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        event(5, EV_EFI_ACTION, b"Exit Boot Services Invocation"),
        event(4, EV_EFI_ACTION, EXIT_BOOT_SERVICES),
        event(5, EV_EFI_ACTION, EXIT_BOOT_SERVICES, measured=b"Exit Boot Services Returned with Failure"),
        no_action(EXIT_BOOT_SERVICES, pcr=5),
        event(5, EV_SEPARATOR, EXIT_BOOT_SERVICES),
    ],
    ids=["nothing", "in another PCR", "other text measured", "not extended", "not an action"],
)
def test_a_log_that_only_pretends_to_be_complete_is_not(last: bytes) -> None:
    log = header(SHA256) + SEPARATOR + last
    pcrs = quoted(log, SHA256, 5)

    with pytest.raises(EventLogError, match="event_log_incomplete"):
        explain(replay_event_log(log), pcrs)
    assert not explain_incomplete(replay_event_log(log), pcrs).is_complete


def test_without_pcr_5_nothing_shows_that_a_log_is_complete() -> None:
    log = replay_event_log(HONEST)
    pcrs = PcrValues(PcrSelection.of(SHA256, [0]), {0: log.pcr(SHA256, 0)})

    assert log.is_complete  # it says so itself, which costs a liar nothing
    with pytest.raises(EventLogError, match="event_log_incomplete"):
        explain(log, pcrs)


def test_pcrs_that_software_can_reset_explain_nothing() -> None:
    log = complete_log(event(16, EV_EFI_ACTION, b"debug"), event(23, EV_EFI_ACTION, b"application"))
    pcrs = quoted(log)
    reset = PcrValues(pcrs.selection, {**pcrs.values, 16: bytes(32)})

    explained = explains(log, reset)

    assert explained is not None
    assert explained.selection.indexes == (5,)
    assert {entry.event.pcr for entry in explained.events} == {5}
    with pytest.raises(ValueError, match="one or more"):
        explain(replay_event_log(log), pcrs, [16, 23])


def test_a_log_cannot_be_asked_about_values_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="only PCRs whose values are given"):
        explain(replay_event_log(HONEST), quoted(HONEST), [5, 12])


def test_a_log_explains_only_banks_that_it_has() -> None:
    pcrs = PcrValues(PcrSelection.of(SHA384, [0]), {0: bytes(48)})

    with pytest.raises(EventLogError, match="event_log_bank_missing"):
        explain(replay_event_log(HONEST), pcrs)


def test_a_confidential_vm_s_log_does_not_explain_a_tpm() -> None:
    events = event(2, EV_EFI_ACTION, EXIT_BOOT_SERVICES, SHA384)
    log = replay_event_log(header(SHA384, pcr=1) + events)
    pcrs = PcrValues(PcrSelection.of(SHA384, [2]), {2: log.pcr(SHA384, 2)})

    assert log.is_complete
    with pytest.raises(EventLogError, match="event_log_not_of_a_tpm"):
        explain(log, pcrs)


# ---- start values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_startup_locality_is_the_last_byte_with_which_pcr_0_starts(locality: int) -> None:
    log = replay_event_log(header(SHA1, SHA256) + startup_locality(locality, SHA1, SHA256) + SEPARATOR)

    start = bytes(31) + bytes([locality])
    assert log.startup_locality == locality
    assert log.pcr(SHA256, 0) == replay_by_hand(SHA256, [sha256(bytes(4))], start)
    assert log.pcr(SHA1, 0) == bytes(19) + bytes([locality])


@pytest.mark.parametrize(
    "events",
    [
        SEPARATOR + startup_locality(3),
        startup_locality(3) + startup_locality(3),
        startup_locality(0) + startup_locality(3),
        startup_locality(1),
        startup_locality(255),
        no_action(b"StartupLocality\0"),
        no_action(b"StartupLocality\0\3\3"),
    ],
    ids=["late", "twice", "changed", "1", "255", "none", "two"],
)
def test_startup_locality_counts_once_before_pcr_0_is_extended_and_is_0_3_or_4(events: bytes) -> None:
    assert ending(header(SHA256) + events) is LogEnding.BAD_LOCALITY


def test_a_late_startup_locality_would_change_pcr_0_if_it_counted() -> None:
    # The control for the rule above: moved to where it may stand, the same event gives another PCR 0.
    late = salvage_event_log(header(SHA256) + SEPARATOR + startup_locality(3))
    early = replay_event_log(header(SHA256) + startup_locality(3) + SEPARATOR)

    assert late.pcr(SHA256, 0) != early.pcr(SHA256, 0)


def test_startup_locality_in_another_pcr_is_only_a_remark() -> None:
    log = replay_event_log(header(SHA256) + no_action(b"StartupLocality\0\3", pcr=1) + SEPARATOR)

    assert log.startup_locality == 0


def test_a_dynamic_launch_starts_pcrs_17_to_22_at_zero() -> None:
    log = replay_event_log(header(SHA256) + event(17, 0x401, b"launch"))

    assert log.has_dynamic_launch
    assert log.pcr(SHA256, 17) == replay_by_hand(SHA256, [sha256(b"launch")])
    assert log.pcr(SHA256, 22) == bytes(32)


# ---- structure ------------------------------------------------------------------------------------------------------


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
