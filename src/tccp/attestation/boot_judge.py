"""Judging a measured boot: every event of the PCRs that a policy speaks of must be one that it knows.

An event's type and text are claims, so nothing hangs on them alone. An event is known when its PCR, its type and its
digest stand together in a policy, or when its text, whose hash the digest is, is one that the policy allows. Whatever a
host writes over an event, it can only become one that is known by having been measured as that one.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

from tccp.attestation.boot_finding import WHAT_TO_DO, Finding, describe_event, listed_digests, listed_lines, shown_text
from tccp.attestation.boot_policy import BootPolicy, Digests, Mode
from tccp.attestation.command_line import load_options, matches, problems
from tccp.attestation.event_data import EventType, decode_event_data, event_type_name
from tccp.attestation.event_log import ExplainedEvent, ExplainedEventLog, explain, replay_event_log
from tccp.attestation.firmware_variable import FirmwareVariable
from tccp.attestation.ima import AcceptedMeasurements
from tccp.attestation.policy import TrustedPlatform, judged_platform
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import PolicyError
from tccp.model import IMA_PCR, PcrValues

_T = EventType
SEPARATORS = (bytes(4), b"\xff" * 4)
# What firmware says it did, in PCR 4; whoever starts an application measures that, too.
ACTIONS = (
    b"Calling EFI Application from Boot Option",
    b"Returning from EFI Application from Boot Option",
    b"BOOT ATTEMPTS OMITTED",
)
IMAGE_TYPES = frozenset({_T.EV_EFI_BOOT_SERVICES_APPLICATION})
FILE_TYPES = frozenset({_T.EV_IPL, _T.EV_EVENT_TAG})
FINDINGS_MAX = 256  # of each mode; what comes behind them is one more reason, and a host can have thousands


def _secure_boot_data(value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA of SecureBoot, a variable of EFI_GLOBAL_VARIABLE."""
    name = "SecureBoot"
    sizes = len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little")
    return bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c") + sizes + name.encode("utf-16-le") + value


# Firmware that knows no secure boot measures the variable without a value.
STATES: dict[str, tuple[bytes, ...]] = {
    "on": (_secure_boot_data(b"\x01"),),
    "off": (_secure_boot_data(b"\x00"), _secure_boot_data(b"")),
}
NO_AUTHORITIES = frozenset({"SecureBoot", "PK", "KEK", "dbx"})
STATES["any"] = STATES["on"] + STATES["off"]


def judge_boot(
    policy: BootPolicy,
    quote: VerifiedQuote,
    event_log: bytes,
    measurements: AcceptedMeasurements | None = None,
) -> TrustedPlatform:
    """The platform behind *quote* as one that *policy* trusts, by the log that explains its PCRs.

    Args:
        event_log: As the firmware wrote it; the host sent it and may have written over it.
        measurements: What `ImaPolicy.judge` accepted of this very quote; needed where the policy names an IMA policy.

    Raises:
        PolicyError: Something that is enforced does not hold: ``kernel_not_in_policy`` and so on, by its section;
            ``wrong_pcr_selection``, ``ima_not_judged``.
        EventLogError: The log does not explain the quoted PCRs.
    """
    if quote.pcrs.selection != policy.selection:
        raise PolicyError("wrong_pcr_selection", f"{policy} judges {policy.selection}, not {quote.pcrs.selection}")
    found = findings(policy, explain_boot(policy, quote.pcrs, event_log))
    check_measurements(policy, quote.pcrs, measurements)
    enforced = [finding for finding in found if finding.mode is Mode.ENFORCE]
    if enforced:
        first = enforced[0]
        more = f"; and {len(enforced) - 1} more" if len(enforced) > 1 else ""
        raise PolicyError(first.reason, f"{policy}: {first}{more}", hint=first.hint)
    return judged_platform(quote, policy.name, policy.version, warnings=tuple(str(finding) for finding in found))


def explain_boot(policy: BootPolicy, pcrs: PcrValues, event_log: bytes) -> ExplainedEventLog:
    """The events behind the PCRs that *policy* judges.

    Raises:
        EventLogError: The log leads elsewhere, is damaged, or does not reach the end of the firmware's part.
    """
    boot = set(policy.selection.indexes) - {IMA_PCR}
    return explain(replay_event_log(event_log, [policy.bank]), pcrs, boot)


def check_measurements(policy: BootPolicy, pcrs: PcrValues, accepted: AcceptedMeasurements | None) -> None:
    """Where *policy* names an IMA policy, that one has accepted what leads to the quoted PCR 10.

    Raises:
        PolicyError: ``ima_not_judged``; ``ima_nothing_measured``: IMA is off.
    """
    if policy.ima_sha256 is None:
        return
    if accepted is None or accepted.policy_sha256 != policy.ima_sha256:
        raise PolicyError("ima_not_judged", f"{policy} needs measurements accepted by {policy.ima_sha256.hex()}")
    if accepted.progress.pcr != pcrs.values[IMA_PCR]:
        raise PolicyError("ima_not_judged", "the measurements are of another quote")
    if not accepted.progress.count:
        hint = "boot a kernel that measures: its command line has ima_policy=tcb, or its IMA policy is loaded"
        raise PolicyError("ima_nothing_measured", f"PCR {IMA_PCR} was never extended", hint=hint)


def findings(policy: BootPolicy, explained: ExplainedEventLog) -> tuple[Finding, ...]:
    """What *policy* does not allow about a boot, PCR by PCR in the order of the log: the first 256 of each mode."""
    judge = _Judge(policy, explained)
    for pcr, judge_pcr in _PCR_JUDGES.items():
        if pcr in policy.boot_pcrs:
            judge_pcr(judge, [entry for entry in explained.events if entry.event.pcr == pcr])
    judge.require_roles()
    return tuple(judge.found)


class _Judge:
    """Goes through the events of one boot."""

    def __init__(self, policy: BootPolicy, explained: ExplainedEventLog) -> None:
        self.policy = policy
        self.bank = explained.selection.bank
        self.found: list[Finding] = []
        self._counted: Counter[Mode] = Counter()
        self.roles: set[str] = set()
        self._separators = tuple(self._hash(value) for value in SEPARATORS)
        command_line = policy.command_line
        # Where only a digest is there, whole lines without a pattern in them are all that can be compared.
        self._line_digests: dict[bytes, str] = {}
        if command_line is not None:
            for line in command_line.lines or ():
                if "*" not in line and not problems(line, command_line.rules):
                    self._know_line(line)

    def _know_line(self, line: str) -> None:
        """From now on the kernel's EFI stub may have measured this one."""
        for form in load_options(line):
            self._line_digests[self._hash(form)] = line

    def _hash(self, content: bytes) -> bytes:
        return hashlib.new(self.bank.hash_name, content).digest()

    def add(self, section: str, expected: str, entry: ExplainedEvent | None, found: str = "") -> None:
        """Note what does not hold. An unknown event counts against the strictest section of its PCR."""
        sections = self.policy.sections
        mode = self.policy.mode_of(entry.event.pcr) if entry is not None else sections[section]
        self._counted[mode] += 1
        if self._counted[mode] > FINDINGS_MAX:
            return
        text = found or (describe_event(entry) if entry is not None else "nothing")
        self.found.append(Finding(section, mode, entry, expected, text, WHAT_TO_DO[section]))

    def require_roles(self) -> None:
        """A section that lists something needs one of it to have been measured."""
        policy = self.policy
        for name in ("kernel", "initrd"):
            rule = getattr(policy, name)
            if rule is not None and name not in self.roles:
                self.add(name, f"one of {listed_digests(rule.digests)}", None)
        if policy.command_line is not None and "command_line" not in self.roles:
            self.add("command_line", "a command line that was measured", None)

    # ---- firmware: PCR 0, 2 and 7

    def pcr_0(self, events: list[ExplainedEvent]) -> None:
        """One of the builds, in its order."""
        firmware = self.policy.firmware
        assert firmware is not None
        rest = self._without_separator("firmware", 0, events)
        if rest != events[: len(rest)]:  # what comes behind it may be the running system's
            self.add("firmware", "nothing behind the separator in PCR 0", events[-1])
        measured = tuple((entry.event.claimed_type, entry.digest) for entry in rest)
        if any(build.events == measured for build in firmware.builds):
            return
        nearest = max(firmware.builds, key=lambda build: _common(build.events, measured))
        at = _common(nearest.events, measured)
        wanted = (
            f"{event_type_name(nearest.events[at][0])} {nearest.events[at][1].hex()}"
            if at < len(nearest.events)
            else "no more"
        )
        name = f" of build {nearest.title!r}" if nearest.title else ""
        self.add("firmware", f"{wanted}{name}", rest[at] if at < len(rest) else None)

    def pcr_2(self, events: list[ExplainedEvent]) -> None:
        """Drivers from outside of the firmware, each listed."""
        rule = self.policy.drivers
        assert rule is not None
        for entry in self._without_separator("drivers", 2, events):
            if entry.digest not in rule.digests:
                self.add("drivers", f"one of {listed_digests(rule.digests)}", entry)

    def pcr_7(self, events: list[ExplainedEvent]) -> None:
        """State and keys of secure boot before the separator, whoever vouched for an image behind it."""
        rule = self.policy.secure_boot
        assert rule is not None
        missing = {"SecureBoot", *rule.variables}
        is_behind = False
        allowed = {name: set(digests) for name, digests in rule.variables.items()}
        allowed["SecureBoot"] = {self._hash(data) for data in STATES[rule.state]}
        for entry in events:
            if self._is_separator(entry) and not is_behind:
                is_behind = True
            elif entry.digest in rule.others:
                continue
            elif is_behind or entry.event.claimed_type == _T.EV_EFI_VARIABLE_AUTHORITY:
                self._authority(entry, rule.authorities)
            else:
                self._variable(entry, allowed, missing)
        for name in sorted(missing):
            self.add("secure_boot", f"variable {name}", None)
        if not is_behind:
            self.add("secure_boot", "a separator in PCR 7", None)

    def _variable(self, entry: ExplainedEvent, allowed: dict[str, set[bytes]], missing: set[str]) -> None:
        content = entry.event.content()
        is_measured = isinstance(content, FirmwareVariable) and entry.is_verified
        name = content.name if isinstance(content, FirmwareVariable) else ""
        if entry.event.claimed_type != _T.EV_EFI_VARIABLE_DRIVER_CONFIG or not is_measured:
            self.add("secure_boot", "a variable of secure boot", entry)
        elif name in allowed:
            if name in missing and entry.digest in allowed[name]:
                missing.discard(name)
            else:
                once = "" if name in missing else ", once"
                missing.discard(name)
                listed = listed_digests(dict.fromkeys(sorted(allowed[name]), ""))
                self.add("secure_boot", f"{name} with one of {listed}{once}", entry)
        elif name not in {"PK", "KEK", "db", "dbx"}:
            self.add("secure_boot", "no variable of that name", entry)

    def _authority(self, entry: ExplainedEvent, authorities: Digests | None) -> None:
        """Who vouched for an image: before the separator for a driver, behind it for what was booted.

        Even where any authority will do, it must be one: else the separator, or the state, could go for one, and a host
        that extends PCR 7 later could put others in their place. What it is called counts as far as it was measured.
        """
        is_known = _names_authority(entry.measured) if authorities is None else entry.digest in authorities
        if entry.event.claimed_type != _T.EV_EFI_VARIABLE_AUTHORITY or not is_known:
            self.add("secure_boot", f"an authority of {listed_digests(authorities or {})}", entry)

    def _without_separator(self, section: str, pcr: int, events: list[ExplainedEvent]) -> list[ExplainedEvent]:
        """The events but for the one separator that belongs there."""
        ends = [entry for entry in events if self._is_separator(entry)]
        if len(ends) != 1:
            self.add(section, f"one separator in PCR {pcr}", ends[1] if ends else None)
        return [entry for entry in events if not self._is_separator(entry)]

    def _is_separator(self, entry: ExplainedEvent) -> bool:
        return entry.digest in self._separators and entry.event.claimed_type == _T.EV_SEPARATOR

    # ---- what was started: PCR 4

    def pcr_4(self, events: list[ExplainedEvent]) -> None:
        """Boot loaders, then a kernel."""
        policy = self.policy
        loaders = policy.boot_loader.digests if policy.boot_loader is not None else {}
        kernels = policy.kernel.digests if policy.kernel is not None else {}
        section = "boot_loader" if policy.boot_loader is not None else "kernel"
        kernel_seen = False
        for entry in self._without_separator(section, 4, events):
            is_image = entry.event.claimed_type in IMAGE_TYPES
            if entry.measured in ACTIONS and entry.is_verified and not is_image:
                continue
            if is_image and entry.digest in kernels:
                self.roles.add("kernel")
                kernel_seen = True
            elif is_image and entry.digest in loaders and not kernel_seen:
                continue
            elif is_image and entry.digest in loaders:
                self.add("boot_loader", "nothing that is started after the kernel", entry)
            else:
                self.add(section, f"one of {listed_digests(loaders, kernels)}", entry)

    # ---- what boot loaders read and were told: PCR 8, 9 and 12

    def pcr_8(self, events: list[ExplainedEvent]) -> None:
        """GRUB's commands, and the command line; which is which, only their text can say."""
        rule = self.policy.command_line
        assert rule is not None
        for entry in events:
            text = _utf8(entry.measured)
            if text is not None and any(matches(pattern, text) for pattern in rule.commands):
                continue
            self._command_line(entry, text)

    def pcr_9(self, events: list[ExplainedEvent]) -> None:
        """Files, and what the kernel's EFI stub measures."""
        policy = self.policy
        known: list[tuple[str, Digests]] = [
            (name, rule.digests)
            for name in ("kernel", "initrd", "boot_files")
            if (rule := getattr(policy, name)) is not None
        ]
        known.append(("command_line", self._line_digests))
        section = next((name for name in ("initrd", "boot_files", "kernel") if name in policy.sections), "command_line")
        for entry in events:
            role = next((name for name, digests in known if entry.digest in digests), None)
            if role is not None and entry.event.claimed_type in FILE_TYPES:
                self.roles.add(role)
                continue
            is_options = entry.event.claimed_data.endswith(b"LOADED_IMAGE::LoadOptions\0")
            named = "command_line" if is_options and policy.command_line is not None else section
            self.add(named, self._expected_in_pcr_9(named, known), entry)

    def _expected_in_pcr_9(self, section: str, known: list[tuple[str, Digests]]) -> str:
        if section == "command_line":
            lines = listed_lines(dict.fromkeys(self._line_digests.values())) or "none is listed whole"
            return f"the digest of one of these lines: {lines}"
        return f"one of {listed_digests(*(digests for name, digests in known if name != 'command_line'))}"

    def pcr_12(self, events: list[ExplainedEvent]) -> None:
        """Command lines that systemd-boot or systemd's stub were given."""
        for entry in events:
            self._command_line(entry, _utf16(entry.measured))

    def _command_line(self, entry: ExplainedEvent, text: str | None) -> None:
        rule = self.policy.command_line
        assert rule is not None
        if text is None:
            self.add("command_line", "a text that was measured", entry)
            return
        wrong = problems(text, rule.rules)
        if wrong:
            self.add("command_line", listed_lines(wrong), entry, shown_text(text))
        elif rule.lines is not None and not any(matches(line, text) for line in rule.lines):
            self.add("command_line", f"one of {listed_lines(rule.lines)}", entry, shown_text(text))
        else:
            self.roles.add("command_line")
            self._know_line(text)


# In this order: of the command lines whose texts are in PCR 8 and 12, the kernel's EFI stub leaves digests in PCR 9.
_PCR_JUDGES: dict[int, Callable[[_Judge, list[ExplainedEvent]], None]] = {
    0: _Judge.pcr_0,
    2: _Judge.pcr_2,
    4: _Judge.pcr_4,
    7: _Judge.pcr_7,
    8: _Judge.pcr_8,
    12: _Judge.pcr_12,
    9: _Judge.pcr_9,
}


def _names_authority(measured: bytes | None) -> bool:
    """Whether what was measured is a variable that vouches for images, and not one that says what secure boot is."""
    content = decode_event_data(_T.EV_EFI_VARIABLE_AUTHORITY, measured) if measured is not None else None
    return isinstance(content, FirmwareVariable) and content.name not in NO_AUTHORITIES


def _common(one: Iterable[object], two: Iterable[object]) -> int:
    """How many items two sequences have in common from their beginning on."""
    count = 0
    for left, right in zip(one, two, strict=False):
        if left != right:
            break
        count += 1
    return count


def _utf8(measured: bytes | None) -> str | None:
    if measured is None:
        return None
    try:
        return measured.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return None


def _utf16(measured: bytes | None) -> str | None:
    if measured is None:
        return None
    try:
        return measured.decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        return None
