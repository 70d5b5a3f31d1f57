"""A measured boot, event by event: what was really measured, what its log says, and a policy that allows it."""

import json
import struct
from pathlib import Path
from typing import NamedTuple

from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.boot_policy import BootPolicy, parse_boot_policy
from tccp.attestation.event_data import EventType as T
from tccp.attestation.policy import TrustedPlatform
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import EvidenceError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.event_logs import complete_log, event, no_action, quoted, sha256

VECTORS = Path(__file__).parents[1] / "vectors" / "boot"
GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


class Step(NamedTuple):
    """One event: where it is measured, what the log calls it, its data, and what was hashed if that is not the data."""

    pcr: int
    kind: int
    data: bytes
    measured: bytes | None = None

    @property
    def digest(self) -> bytes:
        return sha256(self.data if self.measured is None else self.measured)

    @property
    def encoded(self) -> bytes:
        if self.kind == T.EV_NO_ACTION:
            return no_action(self.data, pcr=self.pcr)
        return event(self.pcr, self.kind, self.data, measured=self.measured)


def variable(name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA."""
    text = name.encode("utf-16-le")
    return GLOBAL_VARIABLE + struct.pack("<QQ", len(name), len(value)) + text + value


def image(name: str) -> Step:
    """An image that firmware started; the digest is of its contents, which are its name here."""
    path = name.encode("utf-16-le") + b"\0\0"
    node = b"\x04\x04" + struct.pack("<H", 4 + len(path)) + path
    data = struct.pack("<QQQQ", 0, 0, 0, len(node) + 4) + node + b"\x7f\xff\x04\x00"
    return Step(4, T.EV_EFI_BOOT_SERVICES_APPLICATION, data, name.encode())


def grub(keyword: str, text: str) -> Step:
    return Step(8, T.EV_IPL, f"{keyword}: {text}\0".encode(), text.encode())


def file(name: str, content: bytes) -> Step:
    return Step(9, T.EV_IPL, name.encode() + b"\0", content)


LINE = "/vmlinuz ro lockdown=integrity"
FIRMWARE = [
    Step(0, T.EV_S_CRTM_VERSION, "v1".encode("utf-16-le")),
    Step(0, T.EV_EFI_PLATFORM_FIRMWARE_BLOB, struct.pack("<QQ", 1, 2), b"the firmware"),
]
SECURE_BOOT = [
    Step(7, T.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\x01")),
    Step(7, T.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b"pk")),
    Step(7, T.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("KEK", b"kek")),
    Step(7, T.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"db")),
    Step(7, T.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("dbx", b"dbx")),
]
SEPARATORS = [Step(pcr, T.EV_SEPARATOR, bytes(4)) for pcr in range(8)]
AUTHORITY = Step(7, T.EV_EFI_VARIABLE_AUTHORITY, variable("db", b"the vendor's certificate"))
CALLING = Step(4, T.EV_EFI_ACTION, b"Calling EFI Application from Boot Option")
LOADER, KERNEL = image("grubx64.efi"), image("vmlinuz.efi")
COMMANDS = [grub("grub_cmd", "set timeout=0"), grub("grub_cmd", f"linux {LINE}")]
COMMAND_LINE = grub("kernel_cmdline", LINE)
INITRD = file("/initrd.img", b"the initrd")
HONEST = [*FIRMWARE, *SECURE_BOOT, *SEPARATORS, CALLING, AUTHORITY, LOADER, *COMMANDS, KERNEL, COMMAND_LINE, INITRD]

POLICY = f"""
kind = "measured-boot"
name = "tvmm"
version = 2

[firmware]
mode = "enforce"
[[firmware.builds]]
title = "1.0"
events = ["EV_S_CRTM_VERSION {FIRMWARE[0].digest.hex()}", "EV_EFI_PLATFORM_FIRMWARE_BLOB {FIRMWARE[1].digest.hex()}"]

[drivers]
mode = "enforce"

[secure_boot]
mode = "enforce"
state = "on"
PK = ["{SECURE_BOOT[1].digest.hex()}"]
KEK = ["{SECURE_BOOT[2].digest.hex()}"]
db = ["{SECURE_BOOT[3].digest.hex()}"]
authorities = ["{AUTHORITY.digest.hex()} the vendor"]

[boot_loader]
mode = "enforce"
digests = ["{LOADER.digest.hex()} GRUB"]

[kernel]
mode = "enforce"
digests = ["{KERNEL.digest.hex()} 6.1"]

[initrd]
mode = "enforce"
digests = ["{INITRD.digest.hex()}"]

[command_line]
mode = "enforce"
lines = ["/vmlinuz ro *"]
required = ["lockdown=integrity"]
forbidden = ["init=*", "debug"]
commands = ["set timeout=0", "linux {LINE}"]
"""


def policy(body: str = POLICY) -> BootPolicy:
    return parse_boot_policy(body.encode())


def log_of(steps: list[Step]) -> bytes:
    return complete_log(*(step.encoded for step in steps))


def quote_of(steps: list[Step], rules: BootPolicy | None = None) -> VerifiedQuote:
    """A quote as `verify_quote` would have made it of a TPM into which *steps* were measured."""
    selection = (rules or policy()).selection
    every = quoted(log_of(steps), PcrBank.SHA256, *selection.indexes)
    quote = object.__new__(VerifiedQuote)
    values = {index: every.values[index] for index in selection.indexes}
    object.__setattr__(quote, "pcrs", PcrValues(selection, values))
    return quote


def judged(measured: list[Step], shown: list[Step] | None = None, rules: BootPolicy | None = None) -> TrustedPlatform:
    """The verdict on a host that measured one boot and shows a log of another, or of the same."""
    rules = rules or policy()
    return judge_boot(rules, quote_of(measured, rules), log_of(measured if shown is None else shown))


def refusal(measured: list[Step], shown: list[Step] | None = None, rules: BootPolicy | None = None) -> str:
    """Why the host is refused; ``""`` when it is not."""
    try:
        judged(measured, shown, rules)
    except EvidenceError as problem:
        return problem.reason
    return ""


def recorded(name: str) -> tuple[bytes, PcrValues]:
    """The event log of a recorded boot, and the PCR values of its TPM."""
    folder = VECTORS / name
    given = json.loads((folder / "pcrs.json").read_text())["sha256"]
    values = {int(index): bytes.fromhex(value) for index, value in given.items()}
    return (folder / "event_log.bin").read_bytes(), PcrValues(PcrSelection.of(PcrBank.SHA256, values), values)
