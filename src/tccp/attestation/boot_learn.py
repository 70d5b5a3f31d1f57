"""Writing a measured-boot policy from the logs of hosts that are known to be good.

What is learned is everything that they measured, and nothing else: the person who puts the policy in force reads it
first. Which image is a boot loader and which a kernel is guessed from the log's text, which decides under which heading
a digest stands, never whether an unknown one passes.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tccp.attestation.boot_finding import describe_event
from tccp.attestation.boot_judge import IMAGE_TYPES, SEPARATORS, findings
from tccp.attestation.boot_policy import KIND, VARIABLES, BootPolicy, parse_boot_policy
from tccp.attestation.command_line import load_options
from tccp.attestation.event_data import (
    CommandLine,
    EventType,
    GrubCommand,
    LoadedFile,
    LoadedImage,
    TaggedEvent,
    event_type_name,
)
from tccp.attestation.event_log import ExplainedEvent, ExplainedEventLog
from tccp.attestation.firmware_variable import FirmwareVariable
from tccp.errors import ConfigError
from tccp.model import PcrBank
from tccp.printable import escape

LEARNED_PCRS = (0, 2, 4, 5, 7, 8, 9, 12)
FORBIDDEN = ("init=*", "rdinit=*", "debug", "systemd.debug*", "rd.break*", "single", "emergency", "efi=debug")
_KERNEL_NAME = re.compile(r"vmlinu|linux|bzimage|kernel", re.IGNORECASE)
_INITRD_NAME = re.compile(r"initr|ucode", re.IGNORECASE)
_LOADER_NAME = re.compile(r"grub|shim", re.IGNORECASE)
_TITLE_CHARACTERS = 80


@dataclass
class _Learned:
    """What was seen so far; dictionaries keep the order in which it came."""

    builds: dict[tuple[str, ...], None] = field(default_factory=dict)
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)
    lines: dict[str, None] = field(default_factory=dict)
    commands: dict[str, None] = field(default_factory=dict)

    def add(self, where: str, entry: ExplainedEvent, title: str) -> None:
        self.digests.setdefault(where, {}).setdefault(entry.digest.hex(), escape(title)[:_TITLE_CHARACTERS])


def learn_policy(
    logs: Sequence[ExplainedEventLog],
    *,
    name: str,
    version: int,
    command_lines: Iterable[str] = (),
    required: Iterable[str] = (),
) -> BootPolicy:
    """A policy that allows what these boots measured; its text is ``policy.body``.

    Args:
        logs: Of PCRs that quotes, or a person, vouch for: PCR 0, 2, 4, 5, 7, 8, 9 and 12 in one bank.
        command_lines: Texts of command lines of which the logs have the digest only (the kernel's EFI stub).
        required: Words that every command line must have from now on.

    Raises:
        ConfigError: ``command_line_unknown``: none of *command_lines* is the one that was measured; ``bad_policy``.
    """
    if not logs:
        raise ValueError("nothing to learn from")
    learned = _Learned()
    for log in logs:
        _learn(learned, log, tuple(command_lines))
    policy = parse_boot_policy(_text(learned, logs[0].selection.bank, name, version, tuple(required)).encode())
    for log in logs:
        if wrong := findings(policy, log):
            raise ConfigError("bad_policy", f"a log that was learned from does not conform: {wrong[0]}")
    return policy


def _learn(learned: _Learned, log: ExplainedEventLog, command_lines: tuple[str, ...]) -> None:
    bank = log.selection.bank
    separators = {hashlib.new(bank.hash_name, value).digest() for value in SEPARATORS}
    events = [
        entry
        for entry in log.events
        if entry.digest not in separators or entry.event.claimed_type != EventType.EV_SEPARATOR
    ]
    by_pcr = {pcr: [entry for entry in events if entry.event.pcr == pcr] for pcr in LEARNED_PCRS}
    build = tuple(describe_event(entry)[: 200 + 2 * bank.digest_bytes] for entry in by_pcr[0])
    learned.builds[build] = None
    for entry in by_pcr[2]:
        learned.add("drivers", entry, _title(entry))
    _learn_secure_boot(learned, by_pcr[7])
    _learn_images(learned, by_pcr[4], has_grub=bool(by_pcr[8]))
    for entry in (*by_pcr[8], *by_pcr[12]):
        _learn_text(learned, entry)
    # What GRUB was given as a text, the kernel's EFI stub measures as a digest.
    known = (*command_lines, *learned.lines)
    for entry in by_pcr[9]:
        _learn_file(learned, entry, bank, known)


def _learn_secure_boot(learned: _Learned, events: list[ExplainedEvent]) -> None:
    for entry in events:
        content = entry.event.content()
        name = content.name if isinstance(content, FirmwareVariable) else ""
        kind = event_type_name(entry.event.claimed_type)
        if kind == "EV_EFI_VARIABLE_AUTHORITY":
            learned.add("secure_boot.authorities", entry, name)
        elif name == "SecureBoot" and isinstance(content, FirmwareVariable):
            learned.states.add("on" if content.is_on else "off")
        elif name in VARIABLES and isinstance(content, FirmwareVariable):
            count = len(content.signatures() or ())
            learned.add(f"secure_boot.{name}", entry, f"{count} entries")
        else:
            learned.add("secure_boot.others", entry, f"{kind} {name}".strip())


def _learn_images(learned: _Learned, events: list[ExplainedEvent], *, has_grub: bool) -> None:
    images = [entry for entry in events if entry.event.claimed_type in IMAGE_TYPES]
    for number, entry in enumerate(images):
        is_last = number == len(images) - 1
        is_loader = has_grub and (len(images) == 1 or _LOADER_NAME.search(_title(entry)))
        learned.add("kernel" if is_last and not is_loader else "boot_loader", entry, _title(entry))


def _learn_file(learned: _Learned, entry: ExplainedEvent, bank: PcrBank, command_lines: tuple[str, ...]) -> None:
    title = _title(entry)
    if title.endswith("LoadOptions"):
        for line in command_lines:
            if entry.digest in {hashlib.new(bank.hash_name, form).digest() for form in load_options(line)}:
                learned.lines[line] = None
                return
        raise ConfigError(
            "command_line_unknown",
            f"the log has only the digest of the command line: {entry.digest.hex()}",
            hint="Give the whole line with --command-line: what /proc/cmdline says on that host.",
        )
    if _INITRD_NAME.search(title):
        learned.add("initrd", entry, title)
    elif _KERNEL_NAME.search(title.rsplit("/", 1)[-1]):
        learned.add("kernel", entry, title)
    else:
        learned.add("boot_files", entry, title)


def _learn_text(learned: _Learned, entry: ExplainedEvent) -> None:
    content = entry.event.content()
    measured = entry.measured
    if measured is None:
        raise ConfigError("bad_policy", f"a text that was not measured cannot be learned: {describe_event(entry)}")
    if isinstance(content, CommandLine):
        learned.lines[content.text] = None
    elif isinstance(content, GrubCommand) and content.keyword == "kernel_cmdline":
        learned.lines[measured.rstrip(b"\0").decode("utf-8", "replace")] = None
    else:
        learned.commands[measured.rstrip(b"\0").decode("utf-8", "replace")] = None


def _title(entry: ExplainedEvent) -> str:
    match entry.event.content():
        case LoadedImage(device_path=text) | LoadedFile(name=text) | TaggedEvent(text=text):
            return text
    return event_type_name(entry.event.claimed_type)


# ---- TOML ----------------------------------------------------------------------------------------------------------


def _text(learned: _Learned, bank: PcrBank, name: str, version: int, required: tuple[str, ...]) -> str:
    out = [f'kind = "{KIND}"', f"name = {_string(name)}", f"version = {version}", f'bank = "{bank.hash_name}"']
    out += ["", "[firmware]", 'mode = "enforce"']
    for build in learned.builds:
        out += ["[[firmware.builds]]", *_array("events", build)]
    out += ["", "[drivers]", 'mode = "enforce"', *_listed(learned, "digests", "drivers")]
    state = learned.states.pop() if len(learned.states) == 1 else "any"
    out += ["", "[secure_boot]", 'mode = "enforce"', f'state = "{state}"']
    for key in (*VARIABLES[1:], "authorities", "others"):
        out += _listed(learned, key, f"secure_boot.{key}")
    out += ["", "[boot_loader]", 'mode = "enforce"', *_listed(learned, "digests", "boot_loader")]
    for section in ("kernel", "initrd", "boot_files"):
        if section in learned.digests:
            out += ["", f"[{section}]", 'mode = "enforce"', *_listed(learned, "digests", section)]
    if learned.lines:
        out += ["", "[command_line]", 'mode = "enforce"', *_array("lines", learned.lines)]
        out += [*_array("required", required), *_array("forbidden", _not_used(learned.lines))]
        out += _array("commands", learned.commands)
    return "\n".join(out) + "\n"


def _not_used(lines: Iterable[str]) -> list[str]:
    """The words that hardly any host needs, as long as none of these hosts has them."""
    words = {word for line in lines for word in line.split()}
    return [
        pattern
        for pattern in FORBIDDEN
        if not any(word == pattern or (pattern.endswith("*") and word.startswith(pattern[:-1])) for word in words)
    ]


def _listed(learned: _Learned, key: str, where: str) -> list[str]:
    return _array(key, [f"{digest} {title}".strip() for digest, title in learned.digests.get(where, {}).items()])


def _array(key: str, values: Iterable[str]) -> list[str]:
    lines = [f"    {_string(value)}," for value in values]
    return [f"{key} = [", *lines, "]"] if lines else [f"{key} = []"]


def _string(text: str) -> str:
    """A basic string of TOML in ASCII: as JSON has it, but for one character and those beyond the first 65,536."""
    escaped = (f"\\U{ord(one):08X}" if one == "\x7f" or one > "\uffff" else json.dumps(one)[1:-1] for one in text)
    return f'"{"".join(escaped)}"'
