"""Whether this user reaches the devices and the daemons."""

import grp
import os
import pwd
import socket
from pathlib import Path

from tccp.cli.doctor.finding import Finding, Status

AREA = "permissions"
GROUPS = {
    "tss": ("owns the TPM device", "Install the package tpm-udev, which makes it."),
    "tccp-admin": ("may command the daemons", "Install tccp's sysusers file and run systemd-sysusers."),
    "tccp-viewer": ("may look at the daemons", "Install tccp's sysusers file and run systemd-sysusers."),
}
CONNECT_S = 2.0


def findings(*, kvm: Path, sockets: dict[str, Path]) -> list[Finding]:
    """Look at the devices, at this user's groups, and at the control socket of each daemon.

    Args:
        kvm: The hypervisor's device node.
        sockets: Name of a daemon -> its control socket.
    """
    return [_user(), *(_group(name) for name in GROUPS), _kvm(kvm), *(_socket(*item) for item in sockets.items())]


def _user() -> Finding:
    number = os.geteuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Finding(AREA, "user", Status.OK, f"running as {name}")


def _group(name: str) -> Finding:
    check = f"group_{name.replace('-', '_')}"
    purpose, mend = GROUPS[name]
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return Finding(AREA, check, Status.WARN, f"there is no group {name}, which {purpose}", mend)
    if group.gr_gid in {os.getegid(), *os.getgroups()}:
        return Finding(AREA, check, Status.OK, f"this user is in {name}, which {purpose}")
    return Finding(AREA, check, Status.OK, f"this user is not in {name}, which {purpose}")


def _kvm(device: Path) -> Finding:
    check = "kvm"
    if not device.exists():
        return Finding(
            AREA,
            check,
            Status.WARN,
            f"{device} does not exist",
            "VMs would be emulated: load kvm, or enable it in the firmware.",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding(AREA, check, Status.WARN, f"{device} is closed to this user", "Join the group that owns it.")
    return Finding(AREA, check, Status.OK, f"{device} is open to this user")


def _socket(daemon: str, path: Path) -> Finding:
    """A socket that is not there is no fault: a machine runs the daemons that it runs."""
    check = f"{daemon}_socket"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
            attempt.settimeout(CONNECT_S)
            attempt.connect(os.fspath(path))
    except FileNotFoundError:
        return Finding(AREA, check, Status.OK, f"no {daemon} runs here: {path} does not exist")
    except PermissionError:
        return Finding(
            AREA,
            check,
            Status.WARN,
            f"{path} is closed to this user",
            "Join tccp-viewer or tccp-admin, and log in anew.",
        )
    except OSError as error:
        return Finding(
            AREA,
            check,
            Status.FAIL,
            f"{path}: {error.strerror or error}",
            f"Nobody answers there: systemctl restart tccp-{daemon}.",
        )
    return Finding(AREA, check, Status.OK, f"the {daemon} answers on {path}")
