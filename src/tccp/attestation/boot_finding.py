"""What a measured boot has that its policy does not allow, in words for the person who has to do something."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, islice

from tccp.attestation.boot_policy import Digests, Mode
from tccp.attestation.command_line import TEXT_CHARACTERS_MAX
from tccp.attestation.event_data import (
    Action,
    CommandLine,
    Description,
    GrubCommand,
    LoadedFile,
    LoadedImage,
    TaggedEvent,
    event_type_name,
)
from tccp.attestation.event_log import ExplainedEvent
from tccp.attestation.firmware_variable import FirmwareVariable
from tccp.printable import escape

SUMMARY_CHARACTERS = 200
# Of what a policy allows: a host can have a finding about each of thousands of events.
LISTED_MAX = 8
WHAT_TO_DO = {
    "firmware": "if this firmware is to be trusted, `tccp policy learn` from a host that runs it gives its build",
    "drivers": "find out which card or option brought this driver; add its digest, or take the card out",
    "secure_boot": "set secure boot up as the policy says, or add the digest to a newer version of the policy",
    "boot_loader": "if this loader or kernel is to be trusted, `tccp policy predict` gives its digest to list",
    "kernel": "if this kernel is to be trusted, `tccp policy predict --kernel FILE` gives its digest to list",
    "initrd": "if this initrd is to be trusted, `tccp policy predict --initrd FILE` gives its digest to list",
    "boot_files": "if this file is to be trusted, list its digest",
    "command_line": "boot with a command line that the policy allows, or list this one in a newer version",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a boot that a policy does not allow.

    Args:
        section: The section of the policy that it goes against.
        mode: Whether the platform is refused for it.
        event: The event that was not known; None where one is missing.
        expected: What the policy allows.
        found: What was there instead; may hold text of the host's.
        hint: What to do.
    """

    section: str
    mode: Mode
    event: ExplainedEvent | None
    expected: str
    found: str
    hint: str

    @property
    def reason(self) -> str:
        """A stable identifier: ``kernel_not_in_policy``."""
        return f"{self.section}_not_in_policy"

    def __str__(self) -> str:
        """All of it in a line."""
        where = "" if self.event is None else f"event {self.event.event.number}, PCR {self.event.event.pcr}: "
        return f"{where}expected {self.expected}; found {self.found}"


def describe_event(entry: ExplainedEvent) -> str:
    """What an event is, in a line: its digest is proved, the rest is what the log calls it."""
    event = entry.event
    return f"{event_type_name(event.claimed_type)} {entry.digest.hex()} {_summary(entry)}".rstrip()


def _summary(entry: ExplainedEvent) -> str:
    match entry.event.content():
        case LoadedImage(device_path=text) | LoadedFile(name=text) | Action(text=text) | Description(text=text):
            summary = text
        case GrubCommand(keyword=keyword, text=text):
            summary = f"{keyword}: {text}"
        case CommandLine(text=text) | TaggedEvent(text=text) | FirmwareVariable(name=text):
            summary = text
        case _:
            summary = ""
    return escape(summary[:SUMMARY_CHARACTERS])


def listed_digests(*rules: Digests) -> str:
    """Digests and their titles, short enough for a line."""
    shown = islice(chain.from_iterable(rule.items() for rule in rules), LISTED_MAX)
    names = ", ".join(f"{digest.hex()[:12]}... {title[:SUMMARY_CHARACTERS]}".rstrip() for digest, title in shown)
    return _and_more(names, sum(len(rule) for rule in rules)) if names else "nothing"


def listed_lines(lines: Collection[str]) -> str:
    """Texts, short enough for a line."""
    return _and_more("; ".join(line[:SUMMARY_CHARACTERS] for line in islice(lines, LISTED_MAX)), len(lines))


def shown_text(text: str) -> str:
    """A text of the host's, as much of it as the kernel would read of a command line."""
    return repr(escape(text[:TEXT_CHARACTERS_MAX]))


def _and_more(shown: str, count: int) -> str:
    return f"{shown}, and {count - LISTED_MAX} more" if count > LISTED_MAX else shown
