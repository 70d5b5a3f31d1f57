"""The real coordinator and a real node as services of a booted systemd, in their sandboxes, with TPMs of their own."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.booted_systemd import PYTHON, BootedSystemd
from tests.systemd.booted import SOCKETS, command, drop_in
from tests.systemd.perimeter import (
    COORDINATOR_TOML,
    NODE_TOML,
    SERVICES,
    make_tpms,
    read_ek_certificate,
    wait_until,
)

READ_LOG = """
from tccp.tenant.log_source import open_source, read_entries
from tccp.transparency.checkpoint import parse_checkpoint
from tccp.transparency.entry import decode_entry
from tccp.transparency.note import parse_note
with open_source("https://127.0.0.1:7445") as log:
    head = parse_checkpoint(parse_note(log.read_checkpoint()).text)
    print(*(decode_entry(entry).kind for _, entry in read_entries(log, head.size)))
"""
# Holds every thread of a process but the first until they are killed (ptrace(2): PTRACE_SEIZE, PTRACE_INTERRUPT).
HOLD_THREADS = """
import ctypes, os, sys
pid, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
held = {int(name) for name in os.listdir(f"/proc/{pid}/task")} - {pid}
assert held
for thread in held:
    for request in (0x4206, 0x4207):
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())
while held:
    thread, status = os.waitpid(-1, 0x40000000)  # __WALL: threads, too
    if not os.WIFSTOPPED(status):
        held.remove(thread)
"""
WEBHOOK = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Webhook(BaseHTTPRequestHandler):
    def do_POST(self):
        with open("/run/webhook.heard", "ab") as heard:
            heard.write(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()
HTTPServer(("127.0.0.1", 9999), Webhook).serve_forever()
"""


@pytest.fixture(scope="module")
def tccp(machine: BootedSystemd) -> Iterator[Callable[..., Any]]:
    """The `tccp` command of an operator, on a machine where both daemons are installed and a node is enrolled."""
    for name in ("coordinator", "node"):
        start = f"import sys; from tccp.{name}.daemon import main; sys.exit(main())"
        command(machine, f"tccp-{name}", "-c", start)
    command(machine, "tccp", "-m", "tccp.cli.main")
    make_tpms(machine)
    machine.run("install", "-d", "--owner=tccp-coordinator", "--mode=700", "/var/lib/tccp/coordinator")
    machine.write("/etc/tccp/coordinator.toml", COORDINATOR_TOML)
    machine.run("tccp", "coordinator", "init")
    machine.write("/etc/tccp/node.toml", NODE_TOML)
    machine.run("systemctl", "start", *SOCKETS["coordinator"], *SOCKETS["node"])

    def tccp(*words: str, user: str = "root") -> Any:
        return json.loads(machine.run("tccp", *words, "--json", user=user))

    certificate = read_ek_certificate(machine)
    tccp("coordinator", "policy", "add", "/etc/tccp/tvmm.toml")
    tccp("coordinator", "enrol", "alpha", "--policy", "tvmm", "--ek-certificate", certificate)
    machine.write("/etc/tccp/coordinator-trust.toml", machine.run("tccp", "coordinator", "trust"))
    machine.run("systemd-tmpfiles", "--create", "tccp.conf")
    yield tccp
    machine.run("systemctl", "stop", *SERVICES.values(), *SOCKETS["coordinator"], *SOCKETS["node"])


def test_the_first_command_started_the_coordinator(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    # Commands are answered while the workers get ready.
    wait_until(machine, lambda: machine.show(SERVICES["coordinator"], "ActiveState") == "active")
    assert machine.show(SERVICES["coordinator"], "StatusText").startswith("listening on")


def test_a_node_is_admitted_through_both_sandboxes(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    machine.run("systemctl", "start", SERVICES["node"])

    wait_until(machine, lambda: tccp("node", "status")["state"] == "admitted")

    assert machine.show(SERVICES["node"], "StatusText") == "admitted"
    assert [node["state"] for node in tccp("coordinator", "nodes")["nodes"]] == ["admitted"]


def test_nodes_come_through_workers_that_are_in_the_sandbox_and_keep_their_memory_to_themselves(
    machine: BootedSystemd, tccp: Callable[..., Any]
) -> None:
    found = machine.run("pgrep", "-f", "tccp.coordinator.workers.child").split()
    assert len(found) == 2
    for pid in found:
        assert SERVICES["coordinator"] in machine.run("cat", f"/proc/{pid}/cgroup")
        assert "Permission denied" in machine.run("cat", f"/proc/{pid}/maps", user="tccp-coordinator", check=False)


def test_anybody_reads_the_log_through_its_socket(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    told = machine.run(*PYTHON, "-c", READ_LOG, user="daemon").split()

    assert {"start", "policy", "enrol"} <= set(told)
    assert len(told) <= tccp("coordinator", "status")["log_size"]


def test_monitoring_comes_through_a_socket_that_somebody_enabled(
    machine: BootedSystemd, tccp: Callable[..., Any]
) -> None:
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:7447/healthz', timeout=20).read().decode())"
    with pytest.raises(AssertionError):
        machine.run(*PYTHON, "-c", ask)

    # systemd opens no further socket for a service that runs.
    machine.run("systemctl", "stop", "tccp-coordinator*")
    machine.run("systemctl", "start", "tccp-coordinator-metrics.socket", SERVICES["coordinator"])

    assert machine.run(*PYTHON, "-c", ask).strip() == "healthy"
    machine.run("systemctl", "stop", "tccp-coordinator*")
    machine.run("systemctl", "start", *SOCKETS["coordinator"], SERVICES["coordinator"])


def test_a_process_of_the_same_user_cannot_read_the_coordinators_memory(
    machine: BootedSystemd, tccp: Callable[..., Any]
) -> None:
    pid = machine.show(SERVICES["coordinator"], "MainPID")
    control = "sleep 30 & head -c 4 /proc/$!/maps; kill $!"

    assert "Permission denied" in machine.run("cat", f"/proc/{pid}/maps", user="tccp-coordinator", check=False)
    assert len(machine.run("sh", "-c", control, user="tccp-coordinator")) == 4


def test_the_keys_on_the_disk_belong_to_the_coordinator_alone(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    found = machine.run("find", "/var/lib/tccp/coordinator/keys", "-printf", "%u %m %y\n").splitlines()

    assert set(found) == {"tccp-coordinator 700 d", "tccp-coordinator 600 f"}


def test_only_the_node_can_read_the_door_key(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    trust = "/etc/tccp/coordinator-trust.toml"

    assert machine.run("stat", "--format=%U:%G %a", trust) == "root:tccp-node 640\n"
    assert "Permission denied" in machine.run("cat", trust, user="daemon", check=False)


def test_a_reload_takes_over_a_new_configuration(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    pid = machine.show(SERVICES["coordinator"], "MainPID")
    machine.write("/etc/tccp/coordinator.toml", COORDINATOR_TOML.replace("60", "70"))
    machine.run("systemctl", "reload", SERVICES["coordinator"])

    wait_until(machine, lambda: tccp("coordinator", "status")["lease_s"] == 70)
    assert machine.show(SERVICES["coordinator"], "MainPID") == pid
    wait_until(machine, lambda: machine.show(SERVICES["coordinator"], "ActiveState") == "active")


def test_a_node_goes_on_with_its_lease_through_a_reload(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    before = tccp("node", "status")
    machine.write("/etc/tccp/node.toml", NODE_TOML.replace("127.0.0.1", "localhost"))
    machine.run("systemctl", "reload", SERVICES["node"])

    wait_until(machine, lambda: tccp("node", "status")["coordinator"] == "localhost:7443")
    after = tccp("node", "status")
    assert (after["lease_id"], after["boot_id"]) == (before["lease_id"], before["boot_id"])
    machine.write("/etc/tccp/node.toml", NODE_TOML)


@pytest.mark.parametrize("daemon", ["coordinator", "node"])
def test_a_reload_of_a_wrong_configuration_changes_nothing(
    machine: BootedSystemd, tccp: Callable[..., Any], daemon: str
) -> None:
    pid = machine.show(SERVICES[daemon], "MainPID")
    right = machine.run("cat", f"/etc/tccp/{daemon}.toml")
    machine.write(f"/etc/tccp/{daemon}.toml", "no_such_key = 1\n")
    machine.run("systemctl", "reload", SERVICES[daemon])

    errors = ["journalctl", "--unit", SERVICES[daemon], "--priority=err", "--output=cat"]
    wait_until(machine, lambda: '"event":"reload_failed"' in machine.run(*errors))
    assert '"level":"info"' not in machine.run(*errors), "the journal knows the severity of each line"
    wait_until(machine, lambda: machine.show(SERVICES[daemon], "ActiveState") == "active")
    assert tccp(daemon, "status")
    assert machine.show(SERVICES[daemon], "MainPID") == pid
    machine.write(f"/etc/tccp/{daemon}.toml", right)


@pytest.mark.parametrize("daemon", ["coordinator", "node"])
def test_a_killed_daemon_is_replaced_and_knows_what_it_knew(
    machine: BootedSystemd, tccp: Callable[..., Any], daemon: str
) -> None:
    machine.run("systemctl", "start", SERVICES[daemon])
    before = tccp("coordinator", "status")["coordinator_id"]
    pid = int(machine.show(SERVICES[daemon], "MainPID"))
    machine.run("kill", "-KILL", str(pid))
    machine.wait_for_exit(pid)

    assert tccp("coordinator", "status")["coordinator_id"] == before
    assert [node["name"] for node in tccp("coordinator", "nodes")["nodes"]] == ["alpha"]
    wait_until(machine, lambda: tccp("node", "status")["state"] == "admitted")
    wait_until(machine, lambda: machine.show(SERVICES[daemon], "ActiveState") == "active")
    assert int(machine.show(SERVICES[daemon], "MainPID")) != pid


@pytest.mark.parametrize("daemon", ["coordinator", "node"])
def test_a_daemon_that_hangs_is_replaced(machine: BootedSystemd, tccp: Callable[..., Any], daemon: str) -> None:
    drop_in(machine, SERVICES[daemon], "watchdog", "[Service]\nWatchdogSec=2\n")
    machine.run("systemctl", "restart", SERVICES[daemon])
    pid = int(machine.show(SERVICES[daemon], "MainPID"))
    machine.run("kill", "-STOP", str(pid))

    machine.wait_for_exit(pid)

    assert tccp(daemon, "status")
    assert int(machine.show(SERVICES[daemon], "MainPID")) not in {0, pid}
    machine.run("systemctl", "revert", SERVICES[daemon])


def test_a_coordinator_whose_store_hangs_is_replaced(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    """The event loop goes on turning: only the missing answers of the store's thread give it away."""
    drop_in(machine, SERVICES["coordinator"], "watchdog", "[Service]\nWatchdogSec=2\n")
    machine.run("systemctl", "restart", SERVICES["coordinator"])
    tccp("coordinator", "status")
    pid = machine.show(SERVICES["coordinator"], "MainPID")

    machine.run(*PYTHON, "-c", HOLD_THREADS, pid)

    assert tccp("coordinator", "status")
    assert machine.show(SERVICES["coordinator"], "MainPID") not in {"0", pid}
    machine.run("systemctl", "revert", SERVICES["coordinator"])


def test_a_viewer_may_look_and_not_change(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    machine.run("useradd", "--system", "--user-group", "--groups", "tccp-viewer", "anna", check=False)

    assert tccp("coordinator", "nodes", user="anna")["nodes"]
    with pytest.raises(AssertionError, match="exited with 1"):
        tccp("coordinator", "revoke", "alpha", "--reason", "test", user="anna")


@pytest.mark.parametrize("daemon", ["node", "coordinator"])
def test_a_daemon_stops_in_order_and_in_time(machine: BootedSystemd, tccp: Callable[..., Any], daemon: str) -> None:
    tccp(daemon, "status")
    pid = int(machine.show(SERVICES[daemon], "MainPID"))
    machine.run("systemctl", "stop", *SOCKETS[daemon], SERVICES[daemon])

    machine.wait_for_exit(pid)
    assert machine.show(SERVICES[daemon], "Result") == "success"
    journal = machine.run("journalctl", "--unit", SERVICES[daemon], "--output=cat", "--lines=5")
    assert '"event":"stopped"' in journal


def test_a_notifier_tells_a_webhook_through_its_sandbox(machine: BootedSystemd, tccp: Callable[..., Any]) -> None:
    """As a viewer: it may look at the control socket, and change nothing."""
    command(machine, "tccp-notifier", "-c", "import sys; from tccp.notifier.daemon import main; sys.exit(main())")
    machine.write("/run/webhook.py", WEBHOOK)
    machine.run("systemd-run", "--unit=webhook", "--service-type=exec", *PYTHON, "/run/webhook.py")
    webhook = '[webhook]\nurl = "http://127.0.0.1:9999/"\nkinds = ["tenant"]\n'
    machine.write("/etc/tccp/coordinator.toml", f"{COORDINATOR_TOML}{webhook}")
    machine.run("systemctl", "start", *SOCKETS["coordinator"], SERVICES["coordinator"], "tccp-notifier.service")
    wait_until(machine, lambda: machine.run("cat", "/var/lib/tccp/notifier/told", check=False).strip().isdigit())
    machine.run("install", "-d", "/run/keys")
    tccp("key", "generate", "--type", "tenant", "/run/keys/acme.key")
    tccp("coordinator", "tenant", "add", "acme", "/run/keys/acme.pub")

    wait_until(machine, lambda: '"kind": "tenant"' in machine.run("cat", "/run/webhook.heard", check=False))

    assert machine.show("tccp-notifier.service", "ActiveState") == "active"
    machine.run("systemctl", "stop", "tccp-notifier.service", "webhook.service")
    machine.write("/etc/tccp/coordinator.toml", COORDINATOR_TOML)


def test_a_witness_and_a_feeder_have_the_log_cosigned_through_their_sandboxes(
    machine: BootedSystemd, tccp: Callable[..., Any]
) -> None:
    machine.run("systemctl", "start", *SOCKETS["coordinator"], SERVICES["coordinator"])
    for name, module in (("tccp-witness", "daemon"), ("tccp-feeder", "feeder")):
        command(machine, name, "-c", f"import sys; from tccp.witness.{module} import main; sys.exit(main())")
    machine.write("/etc/tccp/tc.toml", tccp("coordinator", "trust", "--tenant")["trust"])
    pin = ("trust", "add", "127.0.0.1:7444", "--policy", "/etc/tccp/tc.toml", "--name", "tc", "--store", "/run/trust")
    log = tccp(*pin)["log"]
    machine.write("/etc/tccp/witness.toml", f'name = "witness.example/w1"\n[[logs]]\nkey = "{log["key"]}"\n')
    machine.run("install", "-d", "--owner=tccp-witness", "--mode=700", "/var/lib/tccp/witness")
    key = tccp("witness", "init")["key"]
    machine.write(
        "/etc/tccp/coordinator.toml",
        f'{COORDINATOR_TOML}[[witness]]\nurl = "http://127.0.0.1:7446/"\nkey = "{key}"\n',
    )
    machine.run("systemctl", "restart", SERVICES["coordinator"])

    machine.run("systemctl", "start", "tccp-witness.socket", "tccp-feeder.service")

    wait_until(machine, lambda: tccp("coordinator", "status")["witnesses"][0]["size"] > log["size"])
    assert machine.show("tccp-witness.service", "ActiveState") == "active"
    policy = machine.run("cat", "/etc/tccp/tc.toml") + f'\n[[witness]]\nkey = "{key}"\n'
    machine.write("/etc/tccp/tc.toml", policy)
    assert any("witness.example/w1" in line for line in tccp(*pin)["proved"])
    machine.run("systemctl", "stop", "tccp-feeder.service", "tccp-witness.socket", "tccp-witness.service")
