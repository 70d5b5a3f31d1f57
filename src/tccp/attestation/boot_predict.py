"""What will be measured of a kernel, an initrd and a command line, before any host has booted them.

Predicted is what depends on these files alone: not PCR 0 to 3 and 7, which are the firmware's, nor what GRUB runs
besides. Each way to boot measures other things; what is predicted for each is compared with real boots in the tests.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from tccp.attestation.command_line import load_options
from tccp.attestation.event_data import EventType
from tccp.attestation.pe_image import as_qemu_loads, authenticode_hash, sections
from tccp.errors import EvidenceError
from tccp.model import PcrBank

# The sections that systemd's stub measures into PCR 11, in this order; each by its name, then by its contents.
UKI_SECTIONS = (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb")
# The kernel's EFI stub takes an initrd that QEMU brings from the command line, where QEMU's own loader names it.
QEMU_INITRD = " initrd=initrd"


class BootPath(StrEnum):
    """How a kernel comes to run."""

    STUB = "stub"
    """Firmware or a boot loader starts the kernel's own EFI stub."""
    QEMU = "qemu"
    """QEMU brings the kernel (``-kernel``) to firmware, which starts it."""
    GRUB = "grub"
    """GRUB reads the files and boots the kernel."""


@dataclass(frozen=True, slots=True)
class PredictedEvent:
    """An event that will be there.

    Args:
        section: The section of a policy that allows it.
        title: What it is of.
        line: A text that may stand in ``command_line.lines``, of which it is.
    """

    section: str
    pcr: int
    event_type: int
    digest: bytes
    title: str
    line: str = ""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What a host is to boot.

    Args:
        command_line: As the kernel gets it; for GRUB with the kernel's path in front, as its ``linux`` command has it.
        memory_mib: Of QEMU's machine, of whose size the place of the initrd depends.
    """

    kernel: bytes = b""
    initrd: bytes = b""
    command_line: str = ""
    memory_mib: int = 0


def predict_boot(files: BootFiles, path: BootPath, bank: PcrBank = PcrBank.SHA256) -> tuple[PredictedEvent, ...]:
    """The events of *files*, in the order in which they are measured.

    Raises:
        EvidenceError: ``malformed``: the kernel is no PE image.
        ConfigError: ``initrd_too_large``.
    """
    if path is BootPath.GRUB:
        return _grub(files, bank)
    kernel, command_line = files.kernel, files.command_line
    if path is BootPath.QEMU:
        kernel = as_qemu_loads(kernel, initrd_bytes=len(files.initrd), memory_mib=files.memory_mib)
        command_line += QEMU_INITRD if files.initrd else ""
    started = authenticode_hash(kernel, bank.hash_name)
    events = [PredictedEvent("kernel", 4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, started, "kernel")]
    return (*events, *_stub(command_line, files.initrd, bank))


def predict_unified(image: bytes, bank: PcrBank = PcrBank.SHA256) -> tuple[PredictedEvent, ...]:
    """The events of a unified kernel image of systemd's stub.

    With secure boot the kernel inside is started without being measured by itself, and without it is: its event then
    follows that of the image, which is its boot loader. PCR 11, which the running system goes on to extend, is
    predicted for whoever wants to compare it (as systemd 252 measures); a measured-boot policy does not judge it.

    Raises:
        EvidenceError: ``malformed``: it is none.
    """
    found = {section.name: section.content for section in sections(image)}
    if ".linux" not in found:
        raise EvidenceError("malformed", "no unified kernel image: it has no section .linux")
    application = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    whole, inside = authenticode_hash(image, bank.hash_name), authenticode_hash(found[".linux"], bank.hash_name)
    events = [PredictedEvent("boot_loader", 4, application, whole, "unified kernel image")]
    for name in UKI_SECTIONS:
        if name in found:
            events += [
                PredictedEvent("pcr11", 11, EventType.EV_IPL, _hash(content, bank), f"{name}: {what}")
                for what, content in (("name", name.encode() + b"\0"), ("contents", found[name]))
            ]
    events.append(PredictedEvent("kernel", 4, application, inside, "kernel inside, without secure boot"))
    line = found.get(".cmdline", b"").rstrip(b"\0").decode("utf-8", "replace")
    return (*events, *_stub(line, found.get(".initrd", b""), bank))


def _stub(command_line: str, initrd: bytes, bank: PcrBank) -> tuple[PredictedEvent, ...]:
    """What the kernel's EFI stub measures (Linux 5.16 and later)."""
    options = _hash(load_options(command_line)[0], bank)
    events = [PredictedEvent("command_line", 9, EventType.EV_EVENT_TAG, options, "command line", command_line)]
    if initrd:
        events.append(PredictedEvent("initrd", 9, EventType.EV_EVENT_TAG, _hash(initrd, bank), "initrd"))
    return tuple(events)


def _grub(files: BootFiles, bank: PcrBank) -> tuple[PredictedEvent, ...]:
    events = []
    if files.kernel:
        events.append(PredictedEvent("kernel", 9, EventType.EV_IPL, _hash(files.kernel, bank), "kernel"))
    if files.command_line:
        digest = _hash(files.command_line.encode(), bank)
        events.append(PredictedEvent("command_line", 8, EventType.EV_IPL, digest, "command line", files.command_line))
    if files.initrd:
        events.append(PredictedEvent("initrd", 9, EventType.EV_IPL, _hash(files.initrd, bank), "initrd"))
    return tuple(events)


def _hash(content: bytes, bank: PcrBank) -> bytes:
    return hashlib.new(bank.hash_name, content).digest()
