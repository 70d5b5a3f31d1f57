"""Real virtual machines for tests: sealed images of a small guest whose console takes commands.

images = GuestImages(folder)                        # sealed once for many tests
async with a_host(folder) as host, booted(host, images) as guest:
    assert await guest.run("cat /proc/cmdline") == ["console=ttyS0 ..."]
"""

import contextlib
import os
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import trio
from nacl.signing import SigningKey

from tccp.core.image import ImageKey, ImageProgress, image_header_write, image_seal, suite_of_cpu
from tccp.image.sealed import write_header
from tccp.model import SecretBytes
from tccp.node.identity import NodeIdentity, make_node_identity
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.description import SealedFile, VmDescription, VmDisk, VmImages, VmSecrets
from tccp.node.vm.host import HostSettings, UserRange, VmHost, open_host
from tccp.node.vm.keeper import boottime
from tccp.node.vm.opening import open_vm
from tccp.node.vm.vm import Vm
from tests.support.guest import CONSOLE, guest_kernel, make_initramfs
from tests.support.reserved import free_users

FIRST_USER = free_users()
ANSWER_S = 120
TIME_S = 3600
# Switches off when a button is pressed; takes a line, runs it, says how it ended.
SHELL_SCRIPT = """
for button in /dev/input/event*; do (head -c 24 $button >/dev/null && poweroff -f) & done
stty -echo
echo READY
while read -r line; do eval "$line" 2>&1; done
"""


def seal_file(source: Path, target: Path) -> SealedFile:
    """Seal *source* without recipients: the key is what a coordinator would release."""
    key = ImageKey.generate()
    with source.open("rb") as plain, target.open("wb+") as sealed:
        info = image_seal(
            plain.fileno(), sealed.fileno(), key, suite=suite_of_cpu(), threads=2, progress=ImageProgress()
        )
        write_header(sealed.fileno(), image_header_write(info, [], key))
    return SealedFile(target, key, info.root)


class GuestImages:
    """A kernel, an initramfs and a small disk, sealed.

    Args:
        folder: Where they are put.
        programs: Of this machine, for the initramfs.
        files: Further files for it.
    """

    def __init__(
        self, folder: Path, *, programs: Iterable[str] = (), files: dict[str, bytes] | None = None, disk_mib: int = 4
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.initramfs = make_initramfs(
            folder / "initramfs",
            SHELL_SCRIPT,
            programs=programs,
            modules=["qemu_fw_cfg", "button", "evdev"],
            files=files,
        )
        self.kernel = seal_file(guest_kernel(), folder / "kernel.sealed")
        self.initrd = seal_file(self.initramfs, folder / "initrd.sealed")
        plain = folder / "disk"
        tail = os.urandom(1 << 20)
        plain.write_bytes(b"hello, disk!\n".ljust((disk_mib << 20) - len(tail), b"\0") + tail)
        self.disk = seal_file(plain, folder / "disk.sealed")

    def with_disk(self, live: Path, root: bytes | None = None, mark: bytes | None = None) -> VmImages:
        """Kernel, initrd and a disk in the file *live*."""
        return VmImages(self.kernel, self.initrd, (VmDisk(self.disk, live, root, mark),))

    @property
    def diskless(self) -> VmImages:
        """Kernel and initrd."""
        return VmImages(self.kernel, self.initrd)


@dataclass(frozen=True, slots=True)
class TestHost:
    """A host and the identity of its node."""

    __test__ = False

    vms: VmHost
    identity: NodeIdentity


@contextlib.asynccontextmanager
async def a_host(folder: Path, *, console_group: str | None = None) -> AsyncGenerator[TestHost]:
    """A host for VMs in *folder*, with a fresh identity."""
    identity = make_node_identity("alpha")
    issuer = VtpmIssuer("alpha", identity.signing_key, identity.statement)
    users = UserRange(FIRST_USER, 16) if os.geteuid() == 0 else None
    settings = HostSettings(folder / "run", folder / "state", users, console_group)
    async with open_host(settings, issuer) as host:
        await host.keeper.allow_until(boottime() + TIME_S)
        yield TestHost(host, identity)


@dataclass(slots=True)
class Guest:
    """A VM and what its guest's shell says."""

    vm: Vm

    async def said(self, words: str) -> None:
        """Until its console has shown *words*."""
        with trio.fail_after(ANSWER_S):
            while words not in self.text:
                assert not self.vm.is_over, (await self.vm.ended(), self.vm.qemu.said, self.text)
                await trio.sleep(0.01)

    async def run(self, command: str) -> list[str]:
        """Run a command in the guest: the lines that it says. It must succeed."""
        mark = os.urandom(6).hex()
        await self.vm.console.type(f"echo; echo BEGIN {mark}; {command}; echo; echo END {mark} $?\n".encode())
        await self.said(f"END {mark} ")
        said = self.text.partition(f"BEGIN {mark}\n")[2].partition(f"\nEND {mark}")[0]
        return [line for line in said.splitlines() if line]

    @property
    def text(self) -> str:
        """All that the console kept."""
        return self.vm.console.scroll_back.decode(errors="replace").replace("\r", "")


def describe(**changes: object) -> VmDescription:
    """A small VM."""
    usual = VmDescription(os.urandom(16), vcpus=1, memory_mib=192, firmware="direct", cmdline=CONSOLE)
    return replace(usual, **changes)  # type: ignore[arg-type]


def secrets(**for_guest: bytes) -> VmSecrets:
    """A fresh VM key, and what the guest is to know."""
    return VmSecrets(SecretBytes(os.urandom(32)), {name: SecretBytes(value) for name, value in for_guest.items()})


@contextlib.asynccontextmanager
async def booted(
    host: TestHost,
    images: VmImages,
    *,
    description: VmDescription | None = None,
    keys: VmSecrets | None = None,
) -> AsyncGenerator[Guest]:
    """A VM whose guest waits for commands."""
    async with open_vm(description or describe(), images, keys or secrets(), host=host.vms) as vm:
        await vm.run()
        guest = Guest(vm)
        await guest.said("READY")
        yield guest


def another_key() -> SigningKey:
    """The signing key of a node that is not ours."""
    return SigningKey.generate()
