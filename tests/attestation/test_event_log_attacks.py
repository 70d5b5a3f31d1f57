"""What a host that writes its own log can try, and that none of it is taken for what the TPM measured.

Where an attack aims at a rule, a control beside it shows that the same bytes pass, or mislead, without that rule.
"""

import hashlib

import pytest

from tccp.attestation.event_data import Action, CrtmVersion, GrubCommand
from tccp.attestation.event_log import (
    LogEnding,
    explain,
    explain_incomplete,
    replay_event_log,
    salvage_event_log,
)
from tccp.errors import EventLogError
from tccp.model import PcrSelection, PcrValues
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
    complete_log,
    ending,
    event,
    explains,
    header,
    no_action,
    quoted,
    raw_event,
    replay_by_hand,
    sha256,
    startup_locality,
)

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
