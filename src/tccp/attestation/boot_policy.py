"""Measured-boot policies: rules about firmware, secure boot, boot loader, kernel, initrd and command line.

Where a `PcrPolicy` lists PCR values, of which every update makes new ones, this lists what they are made of, and is
judged on a log that explains the quoted values. The format is in docs/POLICIES.md; in short::

    kind = "measured-boot"
    name = "tvmm-2026"
    version = 1

    [kernel]
    mode = "enforce"                     # or "warn"
    digests = ["<hex> Debian 6.1.0-56"]  # a digest and whatever helps to recognise it

A section that is not there is not judged. Of the PCRs of those that are, every event must be known: each is one of the
listed (PCR, type, digest), or the node is refused.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

from tccp.attestation.attributes import PolicyAttributes, parse_policy_attributes
from tccp.attestation.command_line import CommandLineRules
from tccp.attestation.event_data import EventType
from tccp.attestation.policy import POLICY_BYTES_MAX, POLICY_NAME, PcrPolicy, parse_policy, policy_table
from tccp.errors import ConfigError
from tccp.model import EXIT_BOOT_SERVICES_PCR, IMA_PCR, PcrBank, PcrSelection
from tccp.toml import parse_toml

KIND = "measured-boot"
VARIABLES = ("SecureBoot", "PK", "KEK", "db", "dbx")
_HINT = "docs/POLICIES.md shows a complete policy; `tccp policy learn` writes one"


class Mode(StrEnum):
    """What becomes of a platform that a section does not allow."""

    ENFORCE = "enforce"
    WARN = "warn"


# PCRs in which the events of each section stand.
SECTION_PCRS: Mapping[str, frozenset[int]] = {
    "firmware": frozenset({0}),
    "drivers": frozenset({2}),
    "secure_boot": frozenset({7}),
    "boot_loader": frozenset({4}),
    "kernel": frozenset({4, 9}),
    "initrd": frozenset({9}),
    "boot_files": frozenset({9}),
    "command_line": frozenset({8, 9, 12}),
}

Digests = Mapping[bytes, str]


@dataclass(frozen=True, slots=True)
class Build:
    """What one build of a firmware extends PCR 0 with, in order: type and digest."""

    title: str
    events: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Firmware:
    """PCR 0: one of these builds, and nothing else."""

    mode: Mode
    builds: tuple[Build, ...]


@dataclass(frozen=True, slots=True)
class DigestRule:
    """Digests that a role may have, with what they are called. `drivers`, `boot_loader`, `kernel`, `initrd`..."""

    mode: Mode
    digests: Digests


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """PCR 7: state and keys of secure boot. A variable that is not named here may have any value."""

    mode: Mode
    state: Literal["on", "off", "any"]
    variables: Mapping[str, Digests]
    authorities: Digests | None
    others: Digests


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The kernel's command line, in PCR 8 (GRUB), 9 (the kernel's EFI stub) or 12 (systemd).

    Args:
        lines: Whole lines that are allowed, with ``*`` for any run of characters; None allows any that the rules do.
        rules: Words that must and may not be there, in each of *lines* too.
        commands: What else GRUB may have run: whole commands, with ``*`` likewise.
    """

    mode: Mode
    lines: tuple[str, ...] | None
    rules: CommandLineRules
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootPolicy:
    """A measured-boot policy; made by `parse_boot_policy`, judged by `tccp.attestation.boot_judge`."""

    name: str
    version: int
    bank: PcrBank
    firmware: Firmware | None
    drivers: DigestRule | None
    secure_boot: SecureBoot | None
    boot_loader: DigestRule | None
    kernel: DigestRule | None
    initrd: DigestRule | None
    boot_files: DigestRule | None
    command_line: CommandLine | None
    ima_sha256: bytes | None
    """The compiled IMA policy that must have accepted the platform's measurements too."""
    body: bytes = field(repr=False)
    attributes: PolicyAttributes = field(default_factory=PolicyAttributes)
    """What it says of the platforms that it allows."""
    sha256: bytes = field(init=False)
    """The hash of the policy as its author wrote it; once, because each renewal compares it."""
    selection: PcrSelection = field(init=False)
    """What a platform must quote: PCR 5 too, where the firmware's part ends, and 10 if IMA is judged."""

    def __post_init__(self) -> None:
        """What follows from the rest."""
        object.__setattr__(self, "sha256", hashlib.sha256(self.body).digest())
        ima = {IMA_PCR} if self.ima_sha256 is not None else set()
        selection = PcrSelection.of(self.bank, self.boot_pcrs | {EXIT_BOOT_SERVICES_PCR} | ima)
        object.__setattr__(self, "selection", selection)

    @property
    def sections(self) -> Mapping[str, Mode]:
        """The sections that are there, and their modes."""
        found = {name: getattr(self, name) for name in SECTION_PCRS}
        return {name: section.mode for name, section in found.items() if section is not None}

    @property
    def boot_pcrs(self) -> frozenset[int]:
        """The PCRs of which every event is judged."""
        return frozenset().union(*(SECTION_PCRS[name] for name in self.sections))

    def mode_of(self, pcr: int) -> Mode:
        """What an unknown event in *pcr* means: nobody can say whose it is, so the strictest section decides."""
        modes = {mode for name, mode in self.sections.items() if pcr in SECTION_PCRS[name]}
        return Mode.ENFORCE if Mode.ENFORCE in modes else Mode.WARN

    def __str__(self) -> str:
        """The name and version that a person reads."""
        return f"policy {self.name} version {self.version}"


AnyPolicy = PcrPolicy | BootPolicy


def parse_any_policy(body: bytes) -> AnyPolicy:
    """The policy written in *body*, of either kind.

    Raises:
        ConfigError: ``bad_policy``.
    """
    try:
        is_boot = parse_toml(body[:POLICY_BYTES_MAX]).get("kind") == KIND
    except ValueError:
        is_boot = False
    return parse_boot_policy(body) if is_boot else parse_policy(body)


# ---- the file ------------------------------------------------------------------------------------------------------


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown key is an error."""


Lines = tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=65536)], ...]


class _Build(_Strict, frozen=True):
    events: Lines
    title: str = ""


class _Firmware(_Strict, frozen=True):
    mode: Mode
    builds: tuple[_Build, ...]


class _Digests(_Strict, frozen=True):
    mode: Mode
    digests: Lines = ()


class _SecureBoot(_Strict, frozen=True):
    mode: Mode
    state: Literal["on", "off", "any"]
    PK: Lines | None = None
    KEK: Lines | None = None
    db: Lines | None = None
    dbx: Lines | None = None
    authorities: Lines | None = None
    others: Lines = ()


class _CommandLine(_Strict, frozen=True):
    mode: Mode
    lines: Lines | None = None
    required: Lines = ()
    forbidden: Lines = ()
    commands: Lines = ()


class _Ima(_Strict, frozen=True):
    sha256: str


class _File(_Strict, frozen=True):
    kind: Literal["measured-boot"]
    name: str
    version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    description: str = ""
    bank: Literal["sha256", "sha384", "sha512"] = "sha256"
    firmware: _Firmware | None = None
    drivers: _Digests | None = None
    secure_boot: _SecureBoot | None = None
    boot_loader: _Digests | None = None
    kernel: _Digests | None = None
    initrd: _Digests | None = None
    boot_files: _Digests | None = None
    command_line: _CommandLine | None = None
    ima: _Ima | None = None
    attributes: Any = None
    hosts: Any = None


def parse_boot_policy(body: bytes) -> BootPolicy:
    """The measured-boot policy written in *body*.

    Raises:
        ConfigError: ``bad_policy``; the detail names the key and what is wrong with it.
    """
    return boot_policy_in(policy_table(body, bytes_max=POLICY_BYTES_MAX, hint=_HINT), body)


def boot_policy_in(table: Mapping[str, Any], body: bytes) -> BootPolicy:
    """The measured-boot policy in *table*, which is what TOML makes of *body* or of a part of it.

    Raises:
        ConfigError: As `parse_boot_policy`.
    """
    try:
        file = msgspec.convert(table, _File, strict=True)
    except msgspec.ValidationError as problem:
        raise _bad(str(problem)) from None
    if not POLICY_NAME.fullmatch(file.name):
        raise _bad(f"name: {file.name!r} is not a policy name: a-z, 0-9, '-', '_' and '.', 1 to 63 characters")
    bank = PcrBank.from_name(file.bank)
    if file.ima is not None and bank is not PcrBank.SHA256:
        raise _bad(f"ima: lists are replayed in the sha256 bank only, not in {bank.hash_name}")
    policy = BootPolicy(
        name=file.name,
        version=file.version,
        bank=bank,
        firmware=_firmware(file.firmware, bank),
        drivers=_rule("drivers", file.drivers, bank, may_be_empty=True),
        secure_boot=_secure_boot(file.secure_boot, bank),
        boot_loader=_rule("boot_loader", file.boot_loader, bank, may_be_empty=True),
        kernel=_rule("kernel", file.kernel, bank),
        initrd=_rule("initrd", file.initrd, bank),
        boot_files=_rule("boot_files", file.boot_files, bank, may_be_empty=True),
        command_line=_command_line(file.command_line),
        ima_sha256=_hex("ima.sha256", file.ima.sha256, 32) if file.ima is not None else None,
        body=body,
        attributes=parse_policy_attributes(file.attributes, file.hosts),
    )
    if not policy.sections:
        raise _bad("there is no section, or nothing could be refused")
    return policy


def _bad(detail: str) -> ConfigError:
    return ConfigError("bad_policy", detail, hint=_HINT)


def _hex(where: str, text: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size or len(text) != 2 * size:
        raise _bad(f"{where}: {text!r} is not {2 * size} hex digits")
    return value


def _digests(where: str, lines: Lines, bank: PcrBank) -> Digests:
    """``"<hex> title"``, each."""
    found: dict[bytes, str] = {}
    for line in lines:
        text, _, title = line.partition(" ")
        digest = _hex(where, text, bank.digest_bytes)
        if digest in found:
            raise _bad(f"{where}: {text} is listed twice")
        found[digest] = title.strip()
    return found


def _rule(name: str, section: _Digests | None, bank: PcrBank, *, may_be_empty: bool = False) -> DigestRule | None:
    if section is None:
        return None
    if not section.digests and not may_be_empty:
        raise _bad(f"{name}.digests: a section that allows none lets nobody in; leave it out, or list one")
    return DigestRule(section.mode, _digests(f"{name}.digests", section.digests, bank))


def _firmware(section: _Firmware | None, bank: PcrBank) -> Firmware | None:
    if section is None:
        return None
    builds = []
    for number, build in enumerate(section.builds):
        where = f"firmware.builds[{number}].events"
        builds.append(Build(build.title, tuple(_typed(where, line, bank) for line in build.events)))
    if not builds or not all(build.events for build in builds):
        raise _bad("firmware.builds: one build or more is needed, and each has events")
    return Firmware(section.mode, tuple(builds))


def _typed(where: str, line: str, bank: PcrBank) -> tuple[int, bytes]:
    """``"EV_S_CRTM_VERSION <hex> title"``."""
    parts = line.split(maxsplit=2)
    if len(parts) < 2 or parts[0] not in EventType.__members__:
        raise _bad(f"{where}: {line!r} is not a type of event and its digest")
    return int(EventType[parts[0]]), _hex(where, parts[1], bank.digest_bytes)


def _secure_boot(section: _SecureBoot | None, bank: PcrBank) -> SecureBoot | None:
    if section is None:
        return None
    given: dict[str, Any] = {name: getattr(section, name) for name in VARIABLES[1:]}
    return SecureBoot(
        mode=section.mode,
        state=section.state,
        variables={
            name: _digests(f"secure_boot.{name}", lines, bank) for name, lines in given.items() if lines is not None
        },
        authorities=None
        if section.authorities is None
        else _digests("secure_boot.authorities", section.authorities, bank),
        others=_digests("secure_boot.others", section.others, bank),
    )


def _command_line(section: _CommandLine | None) -> CommandLine | None:
    if section is None:
        return None
    if section.lines is None and not section.required:
        raise _bad("command_line: lines, or words that are required, are needed, or nothing could be refused")
    if section.lines == ():
        raise _bad("command_line.lines: a list that allows none lets nobody in")
    rules = CommandLineRules(section.required, section.forbidden)
    return CommandLine(section.mode, section.lines, rules, section.commands)
