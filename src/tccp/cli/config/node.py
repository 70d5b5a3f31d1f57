"""What node.toml leads to on this machine."""

import ipaddress
import pwd
import socket
from pathlib import Path

from tccp.cli.config.common import (
    look_at_control,
    look_at_group,
    look_at_log_of_kernel,
    look_at_ports,
    look_at_tpm,
)
from tccp.cli.config.finding import Report
from tccp.cli.config.paths import look_at_config_file, look_at_file, look_at_state
from tccp.config.node import NodeConfig, VmsConfig
from tccp.errors import ConfigError

USER = "tccp-node"


def look(report: Report, config: NodeConfig) -> None:
    """Note all that the daemon would stumble over."""
    look_at_config_file(report, report.path, user=USER)
    _look_at_trust_file(report, Path(config.coordinator.trust_file))
    look_at_control(report, config.control)
    look_at_tpm(report, config.tpm)
    look_at_log_of_kernel(report, ("tpm", "event_log"), config.tpm.event_log)
    look_at_log_of_kernel(report, ("tpm", "ima_list"), config.tpm.ima_list)
    if config.metrics is not None:
        look_at_ports(report, {"metrics": (config.metrics.address, config.metrics.port)})
    if config.vms is not None:
        _look_at_vms(report, config.vms)


def _look_at_trust_file(report: Report, path: Path) -> None:
    from tccp.transport.trust import load_trust

    place = ("coordinator", "trust_file")
    if look_at_file(report, place, path, user=USER, secret=True):
        try:
            load_trust(path)
        except ConfigError as problem:
            report.fail(place, problem.detail, "Bring what `tccp coordinator trust` prints, as it is.")


def _look_at_vms(report: Report, vms: VmsConfig) -> None:
    look_at_state(report, ("vms", "state"), Path(vms.state), user=USER)
    if vms.console_group is not None:
        look_at_group(report, ("vms", "console_group"), vms.console_group)
    if vms.first_user is None:
        found = "without it VMs run as the daemon's own user, and all as the same; root starts none"
        report.warn(("vms", "first_user"), found, "Name the first of a range of numbers that nobody else has.")
    else:
        numbers = range(vms.first_user, vms.first_user + vms.users)
        taken = [each.pw_name for each in pwd.getpwall() if each.pw_uid in numbers]
        if taken:
            found = f"{', '.join(taken[:5])} have numbers of the users of VMs"
            report.fail(("vms", "first_user"), found, "Choose a range that nobody has.")
    if vms.move_address is not None:
        _look_at_own_address(report, vms.move_address)


def _look_at_own_address(report: Report, address: str) -> None:
    """Whether this machine has it: other nodes send VMs there."""
    place = ("vms", "move_address")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        report.warn(place, f'"{address}" is not an IP address, and names are not looked up here', "Write the address.")
        return
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        try:
            attempt.bind((address, 0))
        except OSError as problem:
            report.fail(place, f"{address}: {problem.strerror}", "Write an address of this machine (ip address).")
