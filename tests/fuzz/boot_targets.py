"""Fuzz targets for what a host tells of its boot: events of its firmware's log, and logs that its TPM confirms."""

import contextlib
import hashlib

from tccp.attestation.boot_judge import ACTIONS, SEPARATORS, judge_boot
from tccp.attestation.boot_learn import learn_policy
from tccp.attestation.boot_policy import BootPolicy
from tccp.attestation.command_line import CommandLineRules, problems, words
from tccp.attestation.event_data import EventType, PartitionTable, Unknown, decode_event_data
from tccp.attestation.event_log import explain_incomplete, replay_event_log
from tccp.attestation.firmware_variable import FirmwareVariable
from tccp.attestation.quote import VerifiedQuote
from tccp.cli.evidence.event_text import event_document, event_text
from tccp.errors import ConfigError, EventLogError, PolicyError
from tccp.model import PcrBank, PcrValues
from tccp.printable import escape
from tests.support.boots import FIRMWARE, HONEST, INITRD, KERNEL, SECURE_BOOT, log_of, policy, variable
from tests.support.event_logs import EXIT_BOOT_SERVICES, event

TYPES = tuple(EventType)
RULES = CommandLineRules(("lockdown=integrity",), ("init=*", "debug"))
# PCRs of which an accepted log has nothing but what the policy lists. PCR 5 is not judged, 8 holds texts with
# patterns, and dbx in 7 may be anything.
LISTED_PCRS = (0, 2, 4, 9)
POLICY: BootPolicy = policy()
DEMANDED = {(step.pcr, step.digest) for step in (SECURE_BOOT[0], *FIRMWARE, KERNEL, INITRD)}
KNOWN = {step.digest for step in HONEST} | {hashlib.sha256(text).digest() for text in (*ACTIONS, *SEPARATORS)}


# ---- what an event says


def feed_event_data(data: bytes) -> bool:
    """The first byte names the type. What is decoded lies in the data, and can be shown."""
    if not data:
        return False
    kind, body = TYPES[data[0] % len(TYPES)], data[1:]
    content = decode_event_data(kind, body)
    if isinstance(content, FirmwareVariable):
        _check_variable(content, body)
    elif isinstance(content, PartitionTable):
        assert len(content.partitions) <= 128
    assert escape(repr(content)).isprintable()
    return not isinstance(content, Unknown)


def _check_variable(content: FirmwareVariable, body: bytes) -> None:
    assert content.value in body
    entries = content.signatures() or ()
    assert sum(16 + len(entry.data) for entry in entries) <= len(content.value)
    option = content.load_option()
    assert option is None or len(option.description) <= len(content.value)


def event_datas() -> list[bytes]:
    """One of each type in an honest log, and what only real firmware writes."""
    path = b"\x02\x01\x0c\x00\xd0\x41\x03\x0a\0\0\0\0" + b"\x01\x01\x06\x00\x02\x1f" + b"\x7f\xff\x04\x00"
    option = b"\x01\0\0\0" + len(path).to_bytes(2, "little") + "debian\0".encode("utf-16-le") + path
    owner = bytes(range(16))
    signatures = bytes(16) + (28 + 2 * 20).to_bytes(4, "little") + bytes(4) + (20).to_bytes(4, "little")
    others = [
        (EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0001", option)),
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", signatures + 2 * (owner + b"cert"))),
        (EventType.EV_EFI_GPT_EVENT, bytes(84) + b"\x80\0\0\0" + bytes(4) + b"\x01" + bytes(7) + bytes(128)),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\x04blob" + bytes(16)),
        (EventType.EV_EVENT_TAG, b"\x01\0\0\0\x03\0\0\0abc"),
        (EventType.EV_NO_ACTION, b"StartupLocality\0\x03"),
        (EventType.EV_NO_ACTION, b"SP800-155 Event\0" + bytes(20)),
        (EventType.EV_IPL, "root=/dev/vda1 quiet\0".encode("utf-16-le")),
        (EventType.EV_S_CRTM_VERSION, bytes(range(16))),
        (EventType.EV_NONHOST_INFO, b"ACPI DATA"),
    ]
    of_a_boot = {EventType(step.kind): step.data for step in HONEST}
    return [bytes([TYPES.index(kind)]) + data for kind, data in (*of_a_boot.items(), *others)]


# ---- a whole log


def feed_boot_log(data: bytes) -> bool:
    """Any log, of a TPM into which just that was measured: accepted as a boot that the policy knows, or refused."""
    try:
        log = replay_event_log(data, [PcrBank.SHA256])
        pcrs = PcrValues(
            POLICY.selection, {index: log.pcr(PcrBank.SHA256, index) for index in POLICY.selection.indexes}
        )
        explained = explain_incomplete(log, pcrs)
    except EventLogError:
        return False
    for shown in log.events:
        event_text(shown), event_document(shown)
    with contextlib.suppress(ConfigError):
        learn_policy([explained], name="x", version=1)  # which allows what it was learned from, as it makes sure
    quote = object.__new__(VerifiedQuote)
    object.__setattr__(quote, "pcrs", pcrs)
    try:
        judge_boot(POLICY, quote, data)
    except (PolicyError, EventLogError):
        return True
    measured = {(entry.event.pcr, entry.digest) for entry in explained.events}
    assert {digest for pcr, digest in measured if pcr in LISTED_PCRS} <= KNOWN
    assert measured >= DEMANDED
    return True


def boot_logs() -> list[bytes]:
    """One that the policy allows, and one that ends too early."""
    honest = log_of(HONEST)
    return [honest, honest[: -len(event(5, EventType.EV_EFI_ACTION, EXIT_BOOT_SERVICES))]]


# ---- a command line


def feed_command_line(data: bytes) -> bool:
    """What conforms has the word for whoever reads it, and shows nobody a word that is forbidden."""
    text = data.decode("latin-1")
    if problems(text, RULES):
        return False
    bare = {word.replace("'", "").replace('"', "") for word in text.split()}
    assert "lockdown=integrity" in words(text)
    assert "debug" not in bare | set(text.split()) | set(words(text))
    assert not any(word.startswith(("init=", "lockdown=")) and word != "lockdown=integrity" for word in bare)
    return True


def command_lines() -> list[bytes]:
    """With quotes of each kind, and with what is for init alone."""
    return [
        b"/vmlinuz ro lockdown=integrity",
        b"root=\"LABEL=a b\" x='c d' lockdown=integrity -- single",
        b'lockdown="integrity" "quiet"',
    ]
