"""Makes firmware event logs, honest and forged, byte by byte."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tccp.attestation.event_log import ExplainedEventLog, LogEnding, explain, replay_event_log, salvage_event_log
from tccp.errors import EventLogError
from tccp.model import PcrBank, PcrSelection, PcrValues

VECTORS = Path(__file__).parents[1] / "vectors" / "eventlog"

EV_NO_ACTION = 0x03
EV_SEPARATOR = 0x04
EV_S_CRTM_VERSION = 0x08
EV_IPL = 0x0D
EV_EFI_ACTION = 0x80000007
SHA1, SHA256, SHA384, SHA512 = PcrBank
EXIT_BOOT_SERVICES = b"Exit Boot Services Returned with Success"


def spec_id(algorithms: Sequence[tuple[int, int]], *, count: int | None = None, vendor: bytes = b"\0") -> bytes:
    """The data of a Spec ID header; *algorithms* are (TPM_ALG_ID, digest size)."""
    declared = len(algorithms) if count is None else count
    pairs = b"".join(struct.pack("<HH", *pair) for pair in algorithms)
    return b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, declared) + pairs + vendor


def legacy_event(pcr: int, kind: int, data: bytes, digest: bytes | None = None) -> bytes:
    """A TCG_PCClientPCREvent."""
    digest = hashlib.new(SHA1.hash_name, data).digest() if digest is None else digest
    return struct.pack("<II", pcr, kind) + digest + struct.pack("<I", len(data)) + data


def header(*banks: PcrBank, pcr: int = 0) -> bytes:
    """The header of a crypto-agile log with these banks."""
    data = spec_id([(bank, bank.digest_bytes) for bank in banks])
    return legacy_event(pcr, EV_NO_ACTION, data, bytes(20))


def raw_event(pcr: int, kind: int, digests: Sequence[tuple[int, bytes]], data: bytes) -> bytes:
    """A TCG_PCR_EVENT2 with whatever digests."""
    parts = b"".join(struct.pack("<H", algorithm) + digest for algorithm, digest in digests)
    return struct.pack("<III", pcr, kind, len(digests)) + parts + struct.pack("<I", len(data)) + data


def event(pcr: int, kind: int, data: bytes, *banks: PcrBank, measured: bytes | None = None) -> bytes:
    """A TCG_PCR_EVENT2 whose digests are those of *measured*, by default the data."""
    measured = data if measured is None else measured
    digests = [(bank, hashlib.new(bank.hash_name, measured).digest()) for bank in banks or (SHA256,)]
    return raw_event(pcr, kind, digests, data)


def no_action(data: bytes, *banks: PcrBank, pcr: int = 0) -> bytes:
    """An event that extends nothing."""
    return raw_event(pcr, EV_NO_ACTION, [(bank, bytes(bank.digest_bytes)) for bank in banks or (SHA256,)], data)


def startup_locality(locality: int, *banks: PcrBank) -> bytes:
    """The event that says from where the TPM was started."""
    return no_action(b"StartupLocality\0" + bytes([locality]), *banks)


def complete_log(*events: bytes, banks: Sequence[PcrBank] = (SHA256,)) -> bytes:
    """A log with these events between its header and the end of the firmware's part."""
    ending = event(5, EV_EFI_ACTION, EXIT_BOOT_SERVICES, *banks)
    return header(*banks) + b"".join(events) + ending


def replay_by_hand(bank: PcrBank, digests: Sequence[bytes], start: bytes | None = None) -> bytes:
    """What a PCR holds after being extended with these digests."""
    value = bytes(bank.digest_bytes) if start is None else start
    for digest in digests:
        value = hashlib.new(bank.hash_name, value + digest).digest()
    return value


def yaml_pcrs(text: str) -> Mapping[str, Mapping[int, str]]:
    """The ``pcrs:`` section of what tpm2_eventlog prints: bank -> index -> hex."""
    banks: dict[str, dict[int, str]] = {}
    current: dict[int, str] = {}
    for line in text.partition("\npcrs:\n")[2].splitlines():
        name, _, value = line.partition(":")
        if value.strip():
            current[int(name)] = value.strip().removeprefix("0x")
        else:
            current = banks.setdefault(name.strip(), {})
    return banks


SEPARATOR = event(0, EV_SEPARATOR, bytes(4))
# A laptop's log, and one made here with a little of everything.
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
