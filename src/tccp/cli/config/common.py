"""What the files of all daemons name alike: the TPM, groups, addresses to listen on, keys of notes."""

import grp
import ipaddress
import re
from pathlib import Path

from tccp.cli.config.finding import Report
from tccp.config.places import Place
from tccp.config.tables import ControlConfig, TpmConfig
from tccp.errors import ConfigError

HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?")
NO_INSTALLATION = "Install tccp's sysusers file and run systemd-sysusers, or correct the name."


def look_at_tpm(report: Report, tpm: TpmConfig) -> None:
    """Note when the TPM is named wrongly, or is not there."""
    from tccp.tpm.tcti import DeviceTcti, SwtpmTcti, parse_tcti

    try:
        tcti = parse_tcti(tpm.tcti)
    except ConfigError as problem:
        report.fail(("tpm", "tcti"), problem.detail, problem.hint)
        return
    path = tcti.path if isinstance(tcti, DeviceTcti | SwtpmTcti) else None
    if path is not None and not path.exists():
        report.fail(("tpm", "tcti"), f"{path} does not exist", "Enable the TPM in the firmware, or correct the path.")


def look_at_log_of_kernel(report: Report, place: Place, path: str) -> None:
    """Note when a log is named that this kernel does not have."""
    try:
        missing = bool(path) and not Path(path).exists()
    except PermissionError:  # securityfs is closed to most
        return
    if missing:
        mend = f'Write {place[-1]} = "" when this machine has none; a policy that needs it then refuses this machine.'
        report.warn(place, f"{path} does not exist", mend)


def look_at_control(report: Report, control: ControlConfig) -> None:
    """Note groups that do not exist: nobody is in them."""
    for key, group in (("admin_group", control.admin_group), ("viewer_group", control.viewer_group)):
        look_at_group(report, ("control", key), group)


def look_at_group(report: Report, place: Place, group: str) -> None:
    """Note that a group does not exist."""
    try:
        grp.getgrnam(group)
    except KeyError:
        report.warn(place, f"there is no group {group}", NO_INSTALLATION)


def look_at_address(report: Report, place: Place, address: str) -> None:
    """Note what can be no address to listen on, nor a name of one."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        if not HOST_NAME.fullmatch(address) or re.fullmatch(r"[0-9.]+", address):
            report.fail(
                place, f'"{address}" is neither an IP address nor a host name', "Write 0.0.0.0 for all of them."
            )


def look_at_ports(report: Report, listeners: dict[str, tuple[str, int]]) -> None:
    """Note tables that want one port of one address both. Port 0 is any free one.

    Args:
        listeners: Name of a table -> its address and port.
    """
    taken: dict[int, list[tuple[str, str]]] = {}
    for table, (address, port) in listeners.items():
        look_at_address(report, (table, "address"), address)
        for other, its_address in taken.get(port, []) if port else []:
            if address == its_address or {address, its_address} & {"0.0.0.0", "::", ""}:  # noqa: S104 - all addresses
                report.fail((table, "port"), f"port {port} is that of [{other}], too", "Choose another port.")
        taken.setdefault(port, []).append((table, address))


def look_at_note_key(report: Report, place: Place, key: str) -> None:
    """Note what is no key of a log or a witness."""
    from tccp.transparency.note import parse_note_key

    try:
        parse_note_key(key)
    except ConfigError as problem:
        report.fail(place, problem.detail, "Copy the whole line that `tccp witness key` or `tccp trust show` prints.")
