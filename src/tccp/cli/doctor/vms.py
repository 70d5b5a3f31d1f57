"""Whether this machine can run VMs, and how closed a box it is for them; see docs/THREAT_MODEL.md."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from tccp.cli.doctor.finding import Finding, Status

AREA = "vms"
# What runs VMs -> the package of Debian that has it.
PROGRAMS = {
    "usr/bin/qemu-system-x86_64": "qemu-system-x86",
    "usr/bin/swtpm": "swtpm",
    "usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
}
TEXT_BYTES_MAX = 64 << 10
# linux/landlock.h: the call's number is the same on all machines, and its flag LANDLOCK_CREATE_RULESET_VERSION.
_CREATE_RULESET = 444
_VERSION = 1


def landlock_version() -> int:
    """Which version of Landlock the kernel has; 0 or less when it has none (landlock_create_ruleset(2))."""
    return int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION))


def findings(root: Path = Path("/"), *, landlock: int) -> list[Finding]:
    """Look for the programs, and at what the kernel lets root do to a VM. All are warnings: a coordinator runs none.

    Args:
        root: The machine's root folder.
        landlock: As `landlock_version` says.
    """
    closed = [
        _ptrace(_text(root / "proc/sys/kernel/yama/ptrace_scope")),
        _lockdown(_text(root / "sys/kernel/security/lockdown")),
        _swap(_text(root / "proc/swaps")),
        _dumpable(_text(root / "proc/sys/fs/suid_dumpable")),
        _namespaces(_text(root / "proc/sys/user/max_user_namespaces")),
        _landlock(landlock),
    ]
    return [*(_program(root / path, package) for path, package in PROGRAMS.items()), *closed]


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(TEXT_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        return None


def _program(path: Path, package: str) -> Finding:
    check = path.name.partition("_CODE")[0].partition("-system")[0].lower()
    if path.exists():
        return Finding(AREA, check, Status.OK, f"{path} is there")
    return Finding(AREA, check, Status.WARN, f"{path} does not exist", f"To run VMs, install {package}.")


def _judge(check: str, well: Callable[[str], bool], what: str, value: str | None, mend: str) -> Finding:
    if value is not None and well(value):
        return Finding(AREA, check, Status.OK, f"{what}: {value}")
    return Finding(AREA, check, Status.WARN, f"{what}: {'unknown' if value is None else value}", mend)


def _ptrace(scope: str | None) -> Finding:
    mend = "Root can read the memory of VMs: boot with kernel.yama.ptrace_scope=3, which stays until the next boot."
    return _judge("ptrace", lambda value: value == "3", "ptrace_scope", scope, mend)


def _lockdown(modes: str | None) -> Finding:
    mend = "Root can change the running kernel: boot with lockdown=confidentiality."
    return _judge("lockdown", lambda value: "[confidentiality]" in value, "kernel lockdown", modes, mend)


def _swap(table: str | None) -> Finding:
    devices = None if table is None else str(len(table.splitlines()) - 1)
    mend = "The memory of VMs can be written to swap: run a node without any."
    return _judge("swap", lambda value: value == "0", "swap devices", devices, mend)


def _dumpable(value: str | None) -> Finding:
    mend = "Core files of VMs can be had: set fs.suid_dumpable=0."
    return _judge("core_files", lambda text: text == "0", "suid_dumpable", value, mend)


def _namespaces(most: str | None) -> Finding:
    mend = "VMs get no network of their own, and do not start: raise user.max_user_namespaces."
    return _judge("namespaces", lambda value: value != "0", "user namespaces at most", most, mend)


def _landlock(version: int) -> Finding:
    mend = "VMs cannot be confined to their files, and do not start: boot with landlock among lsm=."
    return _judge("landlock", lambda value: int(value) > 0, "version of Landlock", str(max(version, 0)), mend)
