"""A taken-over daemon inside its unit's sandbox, against the same attempts of the same user without the sandbox."""

import json

import pytest

from tests.support.booted_systemd import BootedSystemd
from tests.systemd.booted import UNITS, command

PROBE = """
[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/bin/tccp-probe
Restart=no
WatchdogSec=0
Sockets=
StandardOutput=truncate:/run/tccp-probe.json
"""
DAEMONS = ["coordinator", "node", "witness", "feeder", "notifier"]
# What a probe has no use for: other units, and a file of a coordinator.
LEFT_OUT = ("Requires=", "After=", "Wants=", "LoadCredential=")
FORBIDDEN = [
    "write_program",
    "read_root_home",
    "see_other_processes",
    "make_memory_executable",
    "make_a_user_namespace",
    "make_a_set_uid_program",
    "open_a_raw_netlink_socket",
    "leave_memory_in_a_core_file",
    "open_a_device",
]


@pytest.fixture(scope="module")
def attempts(machine: BootedSystemd) -> "dict[str, dict[str, str]]":
    """Unit -> attempt -> outcome, for all units, and for one with nothing but the user in it."""
    command(machine, "tccp-probe", "-m", "tests.support.sandbox_probe")
    # Two devices that are really /dev/zero; one plays the TPM.
    for name, group in (("tpmrm0", "tss"), ("tccp-other", "tss")):
        machine.run("mknod", "--mode=660", f"/dev/{name}", "c", "1", "5")
        machine.run("chgrp", group, f"/dev/{name}")
    machine.run("chmod", "755", "/root")
    bare = "[Service]\nUser=root\nSupplementaryGroups=tss\nStateDirectory=tccp/bare\n"
    results = {}
    texts = {name: (UNITS / f"tccp-{name}.service").read_text() for name in DAEMONS}
    for name, text in {**texts, "bare": bare}.items():
        unit = "".join(line + "\n" for line in text.splitlines() if not line.startswith(LEFT_OUT))
        machine.write(f"/run/systemd/system/tccp-probe-{name}.service", unit + PROBE)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", f"tccp-probe-{name}.service")
        results[name] = json.loads(machine.run("cat", "/run/tccp-probe.json"))
    return results


# Each process of a VM gets an empty network, and that takes a namespace of users.
NEEDED = {("node", "make_a_user_namespace")}


@pytest.mark.parametrize(
    ("unit", "attempt"),
    [(unit, attempt) for unit in DAEMONS for attempt in FORBIDDEN if (unit, attempt) not in NEEDED],
)
def test_a_taken_over_daemon_cannot(attempts: dict[str, dict[str, str]], unit: str, attempt: str) -> None:
    assert attempts[unit][attempt] != "yes"


@pytest.mark.parametrize("attempt", FORBIDDEN)
def test_without_the_sandbox_it_could(attempts: dict[str, dict[str, str]], attempt: str) -> None:
    """The control: the attempts are real ones."""
    assert attempts["bare"][attempt] == "yes"


@pytest.mark.parametrize("unit", ["coordinator", "witness"])
@pytest.mark.parametrize("attempt", ["open_an_internet_socket", "listen_for_connections", "take_datagrams"])
def test_who_is_only_called_has_no_network(attempts: dict[str, dict[str, str]], unit: str, attempt: str) -> None:
    assert "not supported" in attempts[unit][attempt]


@pytest.mark.parametrize("unit", ["node", "feeder", "notifier"])
def test_who_calls_others_may(attempts: dict[str, dict[str, str]], unit: str) -> None:
    """The control."""
    assert attempts[unit]["open_an_internet_socket"] == "yes"


@pytest.mark.parametrize("unit", ["coordinator", "witness", "feeder", "notifier"])
def test_who_needs_no_tpm_or_has_it_for_itself(attempts: dict[str, dict[str, str]], unit: str) -> None:
    assert (attempts[unit]["open_the_tpm"] == "yes") == (unit == "coordinator")


def test_a_node_listens_for_connections_and_for_nothing_else(
    attempts: dict[str, dict[str, str]], machine: BootedSystemd
) -> None:
    """SocketBindDeny= and SocketBindAllow= are for a systemd that was built for them; others say so, and go on."""
    assert attempts["node"]["listen_for_connections"] == "yes"
    is_built = "+BPF_FRAMEWORK" in machine.run("systemctl", "--version").split()
    assert (attempts["node"]["take_datagrams"] != "yes") == is_built
    assert attempts["bare"]["take_datagrams"] == "yes"  # the control


@pytest.mark.parametrize("unit", ["coordinator", "node"])
@pytest.mark.parametrize("need", ["write_own_state", "open_the_tpm"])
def test_what_a_daemon_needs_is_left_to_it(attempts: dict[str, dict[str, str]], unit: str, need: str) -> None:
    assert attempts[unit][need] == "yes"
