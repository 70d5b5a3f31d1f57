"""A guest that boots under OVMF with a software TPM and tells what was measured: event log, IMA list, PCR values.

    measured = boot_measured(folder, kernel=guest_kernel(), initrd=initrd, command_line="lockdown=integrity")
    measured = boot_measured(folder, esp={"EFI/BOOT/BOOTX64.EFI": unified_image(...).read_bytes()})

QEMU translates (TCG), so this runs everywhere, in 10 to 20 s. `tests.support.guest` fetches the kernel.
"""

import base64
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.cpio import File, write_cpio
from tests.support.guest import CONSOLE

QEMU = "qemu-system-x86_64"
OVMF = Path("/usr/share/OVMF")
STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
MEMORY_MIB = 512
_DEADLINE_S = 600  # only so that a hang fails
# An IMA policy of its own: the kernel's "tcb" leaves out what lies in an initramfs.
_INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
dmesg -n 1
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
S=/sys/kernel/security
%s
say() { echo "BEGIN $1"; base64 "$2"; echo "END $1"; }
say log $S/tpm0/binary_bios_measurements
# The list is read after the PCRs, as by a node that reads it after its quote.
for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo "PCR $i $(cat /sys/class/tpm/tpm0/pcr-sha256/$i)"; done
say ima $S/ima/binary_runtime_measurements
say ima_text $S/ima/ascii_runtime_measurements
echo "CMDLINE $(cat /proc/cmdline)"
poweroff -f
"""


@dataclass(frozen=True)
class Measured:
    """What a guest said of its boot."""

    event_log: bytes
    pcrs: PcrValues
    ima: bytes
    ima_text: bytes
    command_line: str


def make_initrd(path: Path, script: str = "") -> Path:
    """An initramfs that runs *script* for sh, tells what was measured and switches off; returns *path*."""
    files = {
        "init": File((_INIT % script).encode(), executable=True),
        "bin/busybox": File(Path("/bin/busybox").read_bytes(), executable=True),
    }
    path.write_bytes(write_cpio(files, ("proc", "sys", "dev", "tmp")))
    return path


def grub_partition(folder: Path, kernel: Path, initrd: Path, command_line: str) -> dict[str, bytes]:
    """Files of a partition from which Debian's GRUB boots, measuring what it reads and runs."""
    config = (
        "set timeout=0\nsearch --set=root --file /vmlinuz\n"
        f"linuxefi /vmlinuz {command_line}\ninitrdefi /initrd.img\nboot\n"
    )
    (folder / "grub.cfg").write_text(config)
    modules = "tpm part_msdos fat linuxefi search search_fs_file normal"
    command = ["grub-mkstandalone", "--format=x86_64-efi", f"--output={folder / 'grub.efi'}"]
    command += [f"--modules={modules}", f"--install-modules={modules}", "--locales=", "--fonts=", "--themes="]
    subprocess.run([*command, f"boot/grub/grub.cfg={folder / 'grub.cfg'}"], check=True, capture_output=True)
    return {
        "EFI/BOOT/BOOTX64.EFI": (folder / "grub.efi").read_bytes(),
        "vmlinuz": kernel.read_bytes(),
        "initrd.img": initrd.read_bytes(),
    }


def unified_image(folder: Path, kernel: Path, initrd: Path, command_line: str) -> Path:
    """A unified kernel image of systemd's stub."""
    (folder / "cmdline").write_text(command_line)
    (folder / "osrel").write_text("ID=test\n")
    places = {"osrel": 0x20000, "cmdline": 0x30000, "linux": 0x2000000, "initrd": 0x3000000}
    files = {"osrel": folder / "osrel", "cmdline": folder / "cmdline", "linux": kernel, "initrd": initrd}
    command = ["objcopy"]
    for name, at in places.items():
        command += ["--add-section", f".{name}={files[name]}", "--change-section-vma", f".{name}={at:#x}"]
    subprocess.run([*command, STUB, folder / "unified.efi"], check=True)
    return folder / "unified.efi"


def boot_measured(
    folder: Path,
    *,
    kernel: Path | None = None,
    initrd: Path | None = None,
    command_line: str = "",
    esp: Mapping[str, bytes] | None = None,
    firmware: str = "OVMF_CODE_4M.fd",
    variables: str = "OVMF_VARS_4M.fd",
) -> Measured:
    """Boot once and return what was measured.

    Args:
        folder: An empty folder for the TPM's state and the disk.
        kernel: A kernel that QEMU hands over; with *initrd* and *command_line*.
        esp: Or files of an EFI system partition that the firmware boots from.
        firmware: The build of OVMF.
        variables: Its variables: keys of secure boot.
    """
    folder.mkdir(exist_ok=True)
    shutil.copy(OVMF / variables, folder / "vars.fd")
    tpm = folder / "tpm"
    tpm.mkdir()
    machine = "q35,smm=on" if "secboot" in firmware or ".ms" in firmware or "snakeoil" in firmware else "q35"
    command = [QEMU, "-M", machine, "-accel", "tcg", "-cpu", "max", "-m", str(MEMORY_MIB), "-no-reboot", "-nodefaults"]
    command += ["-no-user-config", "-display", "none", "-serial", "stdio", "-global", "ICH9-LPC.disable_s3=1"]
    command += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF / firmware}"]
    command += ["-drive", f"if=pflash,unit=1,format=raw,file={folder / 'vars.fd'}"]
    command += ["-chardev", f"socket,id=c,path={tpm / 'ctrl'}", "-tpmdev", "emulator,id=t,chardev=c"]
    command += ["-device", "tpm-crb,tpmdev=t"]
    if kernel is not None:
        command += ["-kernel", str(kernel), "-append", f"{CONSOLE} {command_line}".strip()]
        command += ["-initrd", str(initrd)] if initrd is not None else []
    for name, content in (esp or {}).items():
        path = folder / "esp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if esp:
        command += ["-drive", f"if=virtio,format=raw,readonly=on,file=fat:{folder / 'esp'}"]
    options = ["--tpm2", "--tpmstate", f"dir={tpm}", "--ctrl", f"type=unixio,path={tpm / 'ctrl'}", "--terminate"]
    with subprocess.Popen(["swtpm", "socket", *options]) as swtpm:
        try:
            while not (tpm / "ctrl").exists():
                assert swtpm.poll() is None, "swtpm ended"
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE_S, check=False
            )
        finally:
            swtpm.kill()
    return _measured(done.stdout.decode(errors="replace").replace("\r", ""), done.stderr.decode())


def _measured(said: str, complained: str) -> Measured:
    values = {
        int(index): bytes.fromhex(value) for index, value in re.findall(r"^PCR (\d+) (\w{64})$", said, re.MULTILINE)
    }
    assert len(values) == 16, f"the guest said {said[-3000:]}\n{complained}"
    command_line = re.search(r"^CMDLINE (.*)$", said, re.MULTILINE)
    assert command_line is not None
    return Measured(
        event_log=_block(said, "log"),
        pcrs=PcrValues(PcrSelection.of(PcrBank.SHA256, values), values),
        ima=_block(said, "ima"),
        ima_text=_block(said, "ima_text"),
        command_line=command_line[1],
    )


def _block(said: str, name: str) -> bytes:
    found = re.search(rf"^BEGIN {name}\n(.*?)^END {name}$", said, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no {name} in {said[-3000:]}"
    return base64.b64decode(re.sub(r"[^A-Za-z0-9+/=]", "", found[1]))
