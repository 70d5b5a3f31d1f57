"""Our units under the real systemd, with a small service of the tests' in the daemons' place."""

from collections.abc import Iterator

import pytest

from tests.support.booted_systemd import BootedSystemd
from tests.systemd.booted import CONTROL, SOCKETS, ask, command, drop_in

DESCRIPTORS = {"coordinator": {"nodes": 1, "tenants": 1, "log": 1, "control": 1}, "node": {"control": 1}}


@pytest.fixture(params=["coordinator", "node"])
def daemon(request: pytest.FixtureRequest, machine: BootedSystemd) -> Iterator[str]:
    """The name of a daemon whose sockets are open, and whose service is not running yet."""
    name = str(request.param)
    command(machine, f"tccp-{name}", "-m", "tests.support.systemd_service")
    machine.run("systemctl", "start", *SOCKETS[name])
    yield name
    machine.run("systemctl", "stop", *SOCKETS[name], f"tccp-{name}.service")
    machine.run("rm", "-rf", f"/etc/systemd/system/tccp-{name}.service.d", f"/var/lib/tccp/{name}")
    machine.run("systemctl", "daemon-reload")


def process(machine: BootedSystemd, daemon: str) -> int:
    """The process id by which the service answers; the first connection starts it."""
    return int(ask(machine, CONTROL[daemon], "state")["pid"])


def test_the_first_connection_starts_the_daemon(machine: BootedSystemd, daemon: str) -> None:
    assert machine.show(f"tccp-{daemon}.service", "ActiveState") == "inactive"

    state = ask(machine, CONTROL[daemon], "state")

    assert state["sockets"] == DESCRIPTORS[daemon]
    assert machine.show(f"tccp-{daemon}.service", "ActiveState") == "active"
    assert machine.show(f"tccp-{daemon}.service", "StatusText") == "serving"
    assert machine.show(f"tccp-{daemon}.service", "MainPID") == str(state["pid"])
    assert state["user"] == int(machine.run("id", "--user", f"tccp-{daemon}"))


@pytest.mark.parametrize("daemon", ["coordinator"], indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_nodes_reach_the_coordinator_by_port_7443(machine: BootedSystemd, daemon: str, host: str) -> None:
    """The service itself has no network: the connection comes through systemd's socket."""
    assert ask(machine, f"{host}:7443", "state")["pid"] == process(machine, daemon)


def test_a_reload_reaches_the_daemon_and_ends_ready(machine: BootedSystemd, daemon: str) -> None:
    pid = process(machine, daemon)
    machine.run("systemctl", "reload", f"tccp-{daemon}.service")

    state = ask(machine, CONTROL[daemon], "reloaded")

    assert (state["pid"], state["reloads"]) == (pid, 1)
    assert machine.show(f"tccp-{daemon}.service", "StatusText") == "reloaded 1 times"
    assert machine.show(f"tccp-{daemon}.service", "ActiveState") == "active"


@pytest.mark.parametrize("illness", ["stuck", "unwell"])
def test_the_watchdog_ends_an_ill_daemon_and_another_answers(machine: BootedSystemd, daemon: str, illness: str) -> None:
    drop_in(machine, f"tccp-{daemon}.service", "watchdog", "[Service]\nWatchdogSec=1\nRestartSec=100ms\n")
    pid = int(ask(machine, CONTROL[daemon], illness)["pid"])

    machine.wait_for_exit(pid)

    assert process(machine, daemon) != pid
    assert int(machine.show(f"tccp-{daemon}.service", "NRestarts")) >= 1
    journal = machine.run("journalctl", "--unit", f"tccp-{daemon}.service", "--output=cat")
    assert "Watchdog timeout" in journal


def test_no_connection_is_lost_when_the_daemon_is_killed(machine: BootedSystemd, daemon: str) -> None:
    pid = process(machine, daemon)
    machine.run("kill", "-KILL", str(pid))

    assert process(machine, daemon) != pid, "the socket stayed open, and the successor took the connection from it"


def test_it_stops_in_order(machine: BootedSystemd, daemon: str) -> None:
    pid = process(machine, daemon)
    machine.run("systemctl", "stop", *SOCKETS[daemon], f"tccp-{daemon}.service")

    machine.wait_for_exit(pid)
    assert machine.show(f"tccp-{daemon}.service", "Result") == "success"
    assert machine.run("stat", "--format=%U %a", f"/var/lib/tccp/{daemon}") == f"tccp-{daemon} 700\n"
    machine.run("test", "-e", f"/var/lib/tccp/{daemon}/stopped-in-order")


def test_a_key_of_root_comes_as_a_credential_and_in_no_other_way(machine: BootedSystemd, daemon: str) -> None:
    machine.write("/etc/tccp/test.key", "the key", mode="600")
    drop_in(machine, f"tccp-{daemon}.service", "key", "[Service]\nLoadCredential=key:/etc/tccp/test.key\n")

    state = ask(machine, CONTROL[daemon], "state")

    assert state["credential"] == "the key"
    assert state["absent_credential"] is True
    assert "Permission denied" in machine.run("cat", "/etc/tccp/test.key", user=f"tccp-{daemon}", check=False)


def test_a_second_start_gives_the_same_sockets_again(machine: BootedSystemd, daemon: str) -> None:
    """Also when the service was started by hand: the sockets must come from their units, with their modes."""
    pid = process(machine, daemon)
    machine.run("systemctl", "restart", f"tccp-{daemon}.service")

    assert process(machine, daemon) != pid


@pytest.mark.parametrize(("group", "allowed"), [("tccp-admin", True), ("tccp-viewer", True), ("users", False)])
def test_only_operators_can_connect_to_the_control_socket(
    machine: BootedSystemd, daemon: str, group: str, allowed: bool
) -> None:
    machine.run("useradd", "--system", "--user-group", "--groups", group, f"in-{group}", check=False)

    if allowed:
        assert ask(machine, CONTROL[daemon], "state", user=f"in-{group}")["sockets"]
    else:
        with pytest.raises(AssertionError, match="Permission denied"):
            ask(machine, CONTROL[daemon], "state", user=f"in-{group}")
