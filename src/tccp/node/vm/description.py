"""What a virtual machine is: values that cannot be wrong once they are made, and none of them an option of QEMU."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tccp.core.image import ImageKey
from tccp.core.memory import wipe
from tccp.model import SecretBytes

Firmware = Literal["uefi", "direct"]
Network = Literal["none"]

VM_ID_BYTES = 16
VCPUS_MAX = 64
MEMORY_MIB_MIN = 64
MEMORY_MIB_MAX = 1 << 20
CMDLINE_BYTES_MAX = 2047  # COMMAND_LINE_SIZE of Linux on x86, without the NUL
DISKS_MAX = 8
SECRETS_MAX = 16
SECRET_BYTES_MAX = 64 << 10
# What follows opt/org.tccp/ in fw_cfg, whose names have 55 characters at most.
SECRET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class VmDescription:
    """The machine itself.

    Attributes:
        firmware: ``direct`` boots a kernel without any measurement by firmware; ``uefi`` has OVMF measure kernel,
            initrd and command line into the vTPM.
        cmdline: The kernel's; printable ASCII. Empty without a kernel.
    """

    vm_id: bytes
    vcpus: int
    memory_mib: int
    firmware: Firmware
    cmdline: str = ""
    network: Network = "none"

    def __post_init__(self) -> None:
        """Refuse what QEMU, or Linux in the guest, could not take as it is meant."""
        if len(self.vm_id) != VM_ID_BYTES:
            raise ValueError(f"the id of a VM has {VM_ID_BYTES} bytes")
        if not 1 <= self.vcpus <= VCPUS_MAX:
            raise ValueError(f"between 1 and {VCPUS_MAX} vcpus, not {self.vcpus}")
        if not MEMORY_MIB_MIN <= self.memory_mib <= MEMORY_MIB_MAX:
            raise ValueError(f"between {MEMORY_MIB_MIN} and {MEMORY_MIB_MAX} MiB of memory, not {self.memory_mib}")
        if self.firmware not in ("uefi", "direct"):
            raise ValueError(f"{self.firmware!r} is not firmware")
        if self.network != "none":
            raise ValueError(f"{self.network!r} is not a network")
        if len(self.cmdline) > CMDLINE_BYTES_MAX or not (self.cmdline.isascii() and self.cmdline.isprintable()):
            raise ValueError(f"a command line is printable ASCII, {CMDLINE_BYTES_MAX} characters at most")

    @property
    def name(self) -> str:
        """The id as folders and processes are called after it."""
        return self.vm_id.hex()


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed image on this host, the key that opens it, and the root that a ticket names."""

    path: Path
    key: ImageKey = field(repr=False)
    root: bytes


@dataclass(frozen=True, slots=True)
class VmDisk:
    """A disk: a live disk over a sealed image, whose key it has.

    Attributes:
        live: Its file; made on the first start, when it is not there or empty.
        live_root: What the last stop returned: the disk must stand exactly so. None for the first start, and when the
            last one did not end in good order.
        live_mark: A moment that its history must have come by.
        size_bytes: Of a disk that is made; by default that of the image. A multiple of 4 KiB.
    """

    base: SealedFile
    live: Path
    live_root: bytes | None = None
    live_mark: bytes | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class VmImages:
    """What it boots from. A kernel and an initrd are decrypted into memory only."""

    kernel: SealedFile | None = None
    initrd: SealedFile | None = None
    disks: tuple[VmDisk, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot boot."""
        if self.kernel is None and (self.initrd is not None or not self.disks):
            raise ValueError("an initrd needs a kernel, and a VM a kernel or a disk")
        if len(self.disks) > DISKS_MAX:
            raise ValueError(f"a VM has {DISKS_MAX} disks at most")

    @property
    def roots(self) -> tuple[tuple[str, bytes], ...]:
        """Role and root of each image, in the order kernel, initrd, disks."""
        single = [("kernel", self.kernel), ("initrd", self.initrd)]
        found = [(role, file.root) for role, file in single if file is not None]
        return (*found, *(("disk", disk.base.root) for disk in self.disks))


@dataclass(frozen=True, slots=True)
class VmSecrets:
    """What nobody but this VM may know.

    Attributes:
        vm_key: 32 bytes, from which the key of the vTPM's state is derived.
        for_guest: Name -> bytes that the guest finds at ``/sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/NAME/raw``.
    """

    vm_key: SecretBytes
    for_guest: Mapping[str, SecretBytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse names that fw_cfg or its options would read otherwise, and sizes that are no secrets any more."""
        if len(self.vm_key.value) != 32:
            raise ValueError("a VM key has 32 bytes")
        if len(self.for_guest) > SECRETS_MAX:
            raise ValueError(f"{SECRETS_MAX} secrets at most")
        for name, secret in self.for_guest.items():
            if not SECRET_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a name of a secret: a-z, 0-9, '.', '_' and '-', 1 to 40 characters")
            if not 0 < len(secret.value) <= SECRET_BYTES_MAX:
                raise ValueError(f"a secret has 1 to {SECRET_BYTES_MAX} bytes")

    def wipe(self) -> None:
        """Wipe all of it where it is: whoever has to do with it has got it."""
        for secret in (self.vm_key, *self.for_guest.values()):
            if len(secret.value) > 1:  # Python shares the shorter ones
                wipe(secret.value)
