"""Firmware event logs: what was measured into the PCRs before the operating system ran.

A log comes from the host that is being judged, and anybody there can write one. It is worth something only where its
replay gives the PCR values of a quote, and even then it *explains* those values and proves nothing else:

    the digest and the PCR index of an event    proved, once `explain` has returned
    its data                                    only the part whose hash is the digest: `ExplainedEvent.measured`
    its type                                    never: no digest covers it

Source: TCG PC Client Platform Firmware Profile (PFP) 1.06, section 10.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from tccp.attestation.event_data import EventData, decode_event_data
from tccp.core.event_log import BANKS, ParsedEventLog, event_log_parse
from tccp.errors import EventLogError
from tccp.model import EXIT_BOOT_SERVICES_PCR, PCR_COUNT, RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues

ALL_BANKS = tuple(PcrBank(algorithm) for algorithm in BANKS)
_BANK_NUMBER = {bank: number for number, bank in enumerate(ALL_BANKS)}
_DIGEST_BYTES = tuple(bank.digest_bytes for bank in ALL_BANKS)


class LogEnding(enum.IntEnum):
    """Where a log ends, and why: ``tccp_event_log_ending`` in csrc/tccp_event_log.h."""

    CLEAN = 0
    PADDED_ZEROS = 1
    PADDED_ONES = 2
    TRUNCATED = 3
    BAD_PCR = 4
    BAD_DIGESTS = 5
    SECOND_HEADER = 6
    BAD_LOCALITY = 7

    @property
    def is_damage(self) -> bool:
        """Something stands at the end that is neither an event nor padding."""
        return self >= LogEnding.TRUNCATED


_DAMAGE = {
    LogEnding.TRUNCATED: "an event runs past the end of the log",
    LogEnding.BAD_PCR: "an event in a PCR that no TPM has",
    LogEnding.BAD_DIGESTS: "no digest, one bank twice, or a bank that the header does not declare",
    LogEnding.SECOND_HEADER: "a second Spec ID header",
    LogEnding.BAD_LOCALITY: "StartupLocality twice, after PCR 0 was extended, or not 0, 3 or 4",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event as the log tells it.

    Args:
        number: Its place in the log, from 0; the Spec ID header of a crypto-agile log is not counted.
        pcr: The PCR that it says it extended. 0xFFFFFFFF in Windows' last event, which extends nothing.
        claimed_type: What the log calls it (PFP 1.06, 10.4.1). No digest covers it.
        claimed_data: All of its data. Only `measured` says what of it to believe.
        digests: What each replayed bank was extended with.
        extends: False for EV_NO_ACTION, which extends nothing.
        covered: The part of the data whose hash is the digest in *covered_banks*.
    """

    number: int
    pcr: int
    claimed_type: int
    claimed_data: bytes
    digests: Mapping[PcrBank, bytes]
    extends: bool
    covered: bytes
    covered_banks: frozenset[PcrBank]

    def measured(self, bank: PcrBank) -> bytes | None:
        """The part of the data whose hash is the digest in *bank*; None where no known part is."""
        return self.covered if bank in self.covered_banks else None

    def content(self) -> EventData:
        """The data, decoded as the claimed type says; as untrusted as type and data are."""
        return decode_event_data(self.claimed_type, self.claimed_data)


class EventLog:
    """A log and its replay, before anything has confirmed it. Made by `replay_event_log`."""

    def __init__(self, log: bytes, parsed: ParsedEventLog) -> None:
        self._log = log
        self._parsed = parsed
        info = parsed.info
        self.banks = tuple(bank for number, bank in enumerate(ALL_BANKS) if info.banks >> number & 1)
        self.is_crypto_agile = bool(info.crypto_agile)
        self.is_confidential = bool(info.confidential)
        self.startup_locality = int(info.startup_locality)
        self.has_dynamic_launch = bool(info.dynamic_launch)
        self.ending = LogEnding(info.ending)
        self.consumed_bytes = int(info.consumed)

    def __len__(self) -> int:
        """How many events there are."""
        return self._parsed.event_count

    def extended(self, bank: PcrBank) -> tuple[int, ...]:
        """The PCRs that the log extends in *bank*, ascending."""
        touched = int(self._parsed.info.touched[self._number(bank)])
        return tuple(index for index in range(PCR_COUNT) if touched >> index & 1)

    def pcr(self, bank: PcrBank, index: int) -> bytes:
        """The value with which the log leaves a PCR; its value after a reset where the log does not extend it."""
        if not 0 <= index < PCR_COUNT:
            raise ValueError(f"there is no PCR {index}")
        number = self._number(bank)
        return self._parsed.pcr(number, index, _DIGEST_BYTES[number])

    def pcrs(self, bank: PcrBank) -> Mapping[int, bytes]:
        """The replayed values of the PCRs that the log extends in *bank*."""
        return {index: self.pcr(bank, index) for index in self.extended(bank)}

    @property
    def is_complete(self) -> bool:
        """Whether the log reaches the end of the firmware's part, in each of its banks.

        Firmware measures "Exit Boot Services Returned with Success" into PCR 5 last of all (PFP 1.06, 3.3.4.6). A log
        without it was taken too early, or lost its end. That the event is there is only a claim until `explain`.
        """
        return bool(self.banks) and all(self.exits_boot_services(bank) for bank in self.banks)

    def exits_boot_services(self, bank: PcrBank) -> bool:
        """Whether the firmware's last event is there, with its text measured in *bank*."""
        return bool(int(self._parsed.info.exit_boot_services) >> self._number(bank) & 1)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """All events, in the order of the log; made when first asked for."""
        return tuple(self._event(number) for number in range(self._parsed.event_count))

    def _event(self, number: int) -> Event:
        raw = self._parsed.events[number]
        digests = {}
        for place in _places(raw.digest_banks):
            start = raw.digest_offsets[place]
            digests[ALL_BANKS[place]] = self._log[start : start + _DIGEST_BYTES[place]]
        return Event(
            number=number,
            pcr=raw.pcr,
            claimed_type=raw.type,
            claimed_data=self._log[raw.data_offset : raw.data_offset + raw.data_len],
            digests=MappingProxyType(digests),
            extends=bool(raw.extends),
            covered=self._log[raw.covered_offset : raw.covered_offset + raw.covered_len],
            covered_banks=frozenset(ALL_BANKS[place] for place in _places(raw.covered_banks)),
        )

    def _number(self, bank: PcrBank) -> int:
        if bank not in self.banks:
            raise EventLogError("event_log_bank_missing", f"the log was not replayed in {bank.hash_name}")
        return _BANK_NUMBER[bank]


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    """An event whose PCR a quote confirmed.

    Args:
        event: As the log tells it. Its type is still a claim, and so is its data but for *measured*.
        digest: What the PCR was extended with: proved.
        measured: The part of the data whose hash *digest* is, as good as the digest itself; None where the log has
            only a description of what was measured (an image, a file, a table).
    """

    event: Event
    digest: bytes
    measured: bytes | None

    @property
    def is_verified(self) -> bool:
        """All of the data was measured. What it *means* still hangs on the claimed type."""
        return self.measured == self.event.claimed_data


@dataclass(frozen=True)
class ExplainedEventLog:
    """Events that account for PCR values. Only `explain` and `explain_incomplete` make one.

    Args:
        selection: The PCRs that are explained: those asked for, without the ones that software can reset.
        is_complete: "Exit Boot Services Returned with Success" is one of the events.
        log: Where the events come from, others among them that are not explained.
    """

    selection: PcrSelection
    is_complete: bool
    log: EventLog = field(repr=False)

    @cached_property
    def events(self) -> tuple[ExplainedEvent, ...]:
        """The events that extended one of these PCRs in this bank, and no others, in the order of the log."""
        bank, counted = self.selection.bank, frozenset(self.selection.indexes)
        return tuple(
            ExplainedEvent(event=event, digest=event.digests[bank], measured=event.measured(bank))
            for event in self.log.events
            if event.extends and event.pcr in counted and bank in event.digests
        )


def replay_event_log(log: bytes, banks: Iterable[PcrBank] = ALL_BANKS) -> EventLog:
    """Parse a firmware event log and compute the PCR values that it leads to.

    Reads crypto-agile and SHA-1-only logs, and those of confidential VMs, whose indices are measurement registers.
    Padding after the last event (all 0x00 or all 0xFF, as in the buffer of an ACPI table) is no damage.

    Args:
        banks: Which banks to replay, as far as the log carries them. A verifier knows which one it asked a quote of.

    Raises:
        EventLogError: ``too_large``, ``truncated`` or ``malformed``; ``detail`` says where. No part of it counts then.
    """
    events = salvage_event_log(log, banks)
    if events.ending.is_damage:
        reason = "truncated" if events.ending is LogEnding.TRUNCATED else "malformed"
        raise EventLogError(reason, f"event {len(events)}, at byte {events.consumed_bytes}: {_DAMAGE[events.ending]}")
    return events


def salvage_event_log(log: bytes, banks: Iterable[PcrBank] = ALL_BANKS) -> EventLog:
    """Read as much of a damaged log as there is, to show it to a person; ``ending`` says what is wrong.

    `explain` refuses a log with damage.

    Raises:
        EventLogError: Not even the first event can be read, or the log is too large.
    """
    return EventLog(log, event_log_parse(log, sum({1 << _BANK_NUMBER[bank] for bank in banks})))


def explain(log: EventLog, pcrs: PcrValues, indexes: Iterable[int] | None = None) -> ExplainedEventLog:
    """Find the events that account for *pcrs*, to the end of the firmware's part.

    A log explains PCR values and proves nothing else. In particular it says nothing of what the operating system
    did later, unless that went into a PCR that is explained, and event types stay untrusted: an event can be given
    any type, so a rule must name the PCR, the type *and* the digest that it expects.

    Args:
        pcrs: Values that a verified quote covers.
        indexes: The PCRs that the log must explain; all of *pcrs* when None. Those that the running system extends
            (10 by IMA, 11 to 15 by systemd) can be left out here, and then their events do not count either.
            16 and 23 never count: software can reset them.

    Raises:
        EventLogError: ``event_log_mismatch``: some of these PCRs have other values than the log leads to.
            ``event_log_incomplete``: the values match, but PCR 5 does not show that the firmware handed over.
            ``event_log_bank_missing``, ``event_log_not_of_a_tpm``, ``event_log_damaged``: it cannot explain these.
        ValueError: *indexes* names a PCR of which *pcrs* has no value, or nothing is left to explain.
    """
    explained = explain_incomplete(log, pcrs, indexes)
    if not explained.is_complete:
        raise EventLogError(
            "event_log_incomplete",
            "no measured 'Exit Boot Services Returned with Success' in PCR 5, or PCR 5 is not explained",
            hint="Ask for PCR 5 too. Linux before 5.3, and some firmware, lose the end of the log.",
        )
    return explained


def explain_incomplete(log: EventLog, pcrs: PcrValues, indexes: Iterable[int] | None = None) -> ExplainedEventLog:
    """Like `explain`, and accept a log that does not show the end of the firmware's part.

    The values of the explained PCRs still match to the last bit. What is missing is the proof, by PCR 5, that the
    firmware had handed over when they were quoted.
    """
    _refuse_what_explains_nothing(log, pcrs.selection.bank)
    selection = _selection_to_explain(pcrs.selection, indexes)
    bank = selection.bank
    wrong = [index for index in selection.indexes if log.pcr(bank, index) != pcrs.values[index]]
    if wrong:
        names = ", ".join(str(index) for index in wrong)
        raise EventLogError("event_log_mismatch", f"{bank.hash_name} PCRs that the log does not lead to: {names}")
    is_complete = EXIT_BOOT_SERVICES_PCR in selection.indexes and log.exits_boot_services(bank)
    return ExplainedEventLog(selection=selection, is_complete=is_complete, log=log)


def _refuse_what_explains_nothing(log: EventLog, bank: PcrBank) -> None:
    if log.ending.is_damage:
        raise EventLogError("event_log_damaged", _DAMAGE[log.ending])
    if log.is_confidential:
        raise EventLogError("event_log_not_of_a_tpm", "its indices are measurement registers of a confidential VM")
    if bank not in log.banks:
        raise EventLogError("event_log_bank_missing", f"the log was not replayed in {bank.hash_name}")


def _selection_to_explain(selection: PcrSelection, indexes: Iterable[int] | None) -> PcrSelection:
    wanted = set(selection.indexes if indexes is None else indexes)
    if not wanted <= set(selection.indexes):
        raise ValueError("a log can explain only PCRs whose values are given")
    return PcrSelection.of(selection.bank, wanted - RESETTABLE_PCRS)


def _places(mask: int) -> Iterable[int]:
    return (place for place in range(len(ALL_BANKS)) if mask >> place & 1)
